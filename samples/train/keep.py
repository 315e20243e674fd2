#!/usr/bin/env python3
"""Teaches a model what is worth keeping, and prints what it remembers and how well it reads, before and after.

    samples/train/keep.py MODEL FOLDER --text NOVELS... --filler HELD_OUT_NOVEL

FOLDER takes the model that was taught, keeps.gguf, and what was measured. What is there is not made again, so that a run that
was stopped goes on. INFINI names the command, where it is not in build/release."""
import argparse
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = os.environ.get("INFINI", ROOT / "build/release/samples/infini")


def infini(out, *arguments):
    """What the command prints as JSON, kept in the file `out`."""
    if not out.exists():
        done = subprocess.run([COMMAND, *map(str, arguments), "--json"], check=True, stdout=subprocess.PIPE)
        part = out.with_suffix(".part")
        part.write_bytes(done.stdout)
        part.rename(out)
    return json.loads(out.read_text(encoding="utf-8"))


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("model", type=pathlib.Path)
    parse.add_argument("folder", type=pathlib.Path)
    parse.add_argument("--text", nargs="+", required=True, help="books in which facts for training are told")
    parse.add_argument("--filler", required=True, help="a book that is held out: facts are told in it, and it is scored")
    parse.add_argument("--bias", help="LAYER:NATS,... that look up what is kept: infini keep --bias")
    parse.add_argument("--context", type=int, default=8192, help="of full attention, which is asked as far as that reaches")
    parse.add_argument("--segment", type=int, default=256)
    parse.add_argument("--carry", type=int, default=320)
    parse.add_argument("--keep", type=int, default=1024, help="tokens that are kept")
    parse.add_argument("--tokens", type=int, default=140000, help="read to learn from")
    parse.add_argument("--score", type=int, default=60000, help="bytes of the book that are scored")
    parse.add_argument("--distances", default="100,1000,8000")
    parse.add_argument("--seeds", default="1,2")
    parse.add_argument("--facts", default="3", help="in a stream")
    parse.add_argument("--trials", default="3", help="facts of each family")
    parse.add_argument("--threads", default="0")
    given = parse.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    distances = [int(distance) for distance in given.distances.split(",")]

    threads = ["--threads", given.threads]
    window = ["--segment", given.segment, "--carry", given.carry, "--sinks", 4, "--memory", "off", *threads]
    keeps = given.folder / "keeps.gguf"
    infini(given.folder / "keeps.json", "keep", given.model, *window, "--keep", given.keep, "--tokens", given.tokens,
           "--text", *given.text, *(["--bias", given.bias] if given.bias else []), "--out", keeps)
    text = given.folder / "scored.txt"
    begin = pathlib.Path(given.filler).read_bytes()[:given.score].decode("utf-8", "ignore")
    text.write_text(begin, encoding="utf-8")

    full = ["--segment", given.context, "--carry", 0, "--sinks", 0, "--memory", "off", *threads]
    ways = [("full attention", "full", given.model, full),
            ("window alone", "window", given.model, window),
            ("keeps what surprised", "surprise", given.model, [*window, "--keep", given.keep]),
            ("keeps what it was taught to", "taught", keeps, [*window, "--keep", given.keep])]
    print("| | state |" + "".join(f" after {distance:,} |" for distance in distances) + " mean NLL |")
    print("|---" * (len(distances) + 3) + "|")
    for name, short, model, flags in ways:
        near = [distance for distance in distances if short != "full" or distance <= given.context * 7 // 8]
        right, state = {}, 0
        for seed in given.seeds.split(","):
            measured = infini(given.folder / f"{short}.{seed}.json", "recall", model, "--filler", given.filler, "--trials",
                              given.trials, "--facts", given.facts, "--seed", seed, "--distance", ",".join(map(str, near)),
                              *flags)
            column, = measured["columns"]
            state = max(state, column["state_bytes"])
            for row in column["results"]:
                found, asked = right.get(row["distance"], (0, 0))
                right[row["distance"]] = found + row["right"], asked + row["asked"]
        nll = infini(given.folder / f"{short}.score.json", "score", model, "--file", text, *flags)["nll_mean"]
        shown = ["{} of {}".format(*right[distance]) if distance in right else "" for distance in distances]
        print(f"| {name} | {state / 1e6:.0f} MB | " + " | ".join(shown) + f" | {nll:.3f} |", flush=True)


if __name__ == "__main__":
    main()
