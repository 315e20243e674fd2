#!/usr/bin/env python3
"""What Infini-attention is worth: one small model trained five times, differing in what it keeps of the past.

    compare.py FOLDER [--infini COMMAND] [--steps 900] [--model CONFIG.json] ...

Every variant has the same parameters (but for the gates, one number a head, which only the last two train), reads the
same sequences in the same order, as many tokens, and no token sees more than --window tokens through local attention:

    window          the last 3/4 to 4/4 of a window; gates shut
    transformer_xl  one segment of half a window, and the keys and values of the one before; gates shut
    sinks           the first four tokens and a window that is shorter by them (StreamingLLM); gates shut
    infini_linear   as transformer_xl, and the memory, Linear rule, of everything before
    infini_delta    the same, Delta rule

So what the memory is worth is the difference between the last two and transformer_xl. Half of the sequences are books,
half recall of values under four names; first short and dense ones, in a third of the steps, then longer and sparser ones,
with the optimizer begun anew. Nothing depends on what a variant has learned. Attention supervision tells each what it can
be told: two heads of the first layer to look at a value's name, and the memory of the last layer, where there is one, to
find the value. All values count the same, in view or not. With --plain all sequences are text, of --sequence windows each,
nobody is told anything, and there is a sixth, the ceiling: long, which sees a whole sequence through local attention.

Measured: perplexity of texts that are held out, read as one stream each, also of tokens that the text had never before
behind the same one, within a window, and farther back; the share of a pass key's digits found, key at the start, question at
the end, over the tokens between (not with --plain); bytes of a session's state after a whole text. FOLDER receives
results.json, table.md, charts.json, charts.svg, and of each variant model, log and checkpoint: run again, the comparison
goes on where it was stopped.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys

import plot

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXTS = ROOT / "samples/texts"
TRAINED = ["wuthering_heights.txt", "a_tale_of_two_cities.txt", "far_from_the_madding_crowd.txt", "life_on_the_mississippi.txt"]
HELD_OUT = ["lord_jim.txt", "pride_and_prejudice.txt"]
PAIRS = {"new": "had never", "near": "within a window", "far": "farther back"}  # of tokens that a text had before
NAMES = ["pass", "red", "river", "house"]  # few, so that minutes of training tell them apart


def variants(a):
    """What infini_model_create is told of each, and what it keeps."""
    window, gate, long = a.window, a.gate, a.window * a.sequence
    fine, half, shut = window // 4, window // 2, {"gate": "-inf"}
    ceiling = {"long": {"segment": fine, "carry": long - fine, **shut, "keeps": f"keys and values of the last {long} tokens"}}
    return {
        "window": {"segment": fine, "carry": window - fine, **shut, "keeps": f"keys and values of the last {window} tokens"},
        "transformer_xl": {"segment": half, "carry": half, **shut, "keeps": f"keys and values of the segment and of the last {half} tokens before it"},
        "sinks": {"segment": fine, "carry": window - fine - 4, "sinks": 4, **shut, "keeps": f"keys and values of the first 4 and the last {window - 4} tokens"},
        "infini_linear": {"segment": half, "carry": half, "gate": gate, "update": "linear", "keeps": "as transformer_xl, and the memory of everything before"},
        "infini_delta": {"segment": half, "carry": half, "gate": gate, "update": "delta", "keeps": "as transformer_xl, and the memory of everything before"},
        **(ceiling if a.plain else {}),
    }


def description(a, steps, segment, memory, windows, task, seed, **training):
    """`memory`: the layer whose memory is told what to find, or None. `task`: of recall; None: text alone."""
    texts = [str(path.resolve()) for path in a.train]
    text = {"type": "text", "files": texts, "order": "excerpts", "unknown_text": "skip", "seed": seed}
    recipe = {"train": "all", "optimizer": "muon", "rate": 0.004, "muon_rate": 0.02, "steps": steps, "warmup": min(20, steps // 10),
              "tokens": a.tokens, "segments": windows * a.window // segment, "seed": a.seed, **training}
    if task is None:
        return {"training": recipe, "data": text}
    recipe.update({"local_supervision": 0.3, "local_supervised": [[0, 0], [0, 1]]})
    if memory is not None:
        recipe.update({"supervision": 1, "supervised": [[memory, -1]]})
    recall = {"type": "recall", "seed": seed, "names": NAMES, "prose": texts, "inside": 3, "across": 3, **task}
    parts = [{"ratio": 1, "source": source} for source in (recall, text)]
    return {"training": recipe, "data": {"type": "mixture", "seed": seed, "sources": parts}}


class Comparison:
    def __init__(self, arguments):
        self.a = arguments
        self.folder = pathlib.Path(arguments.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.how = [*(["--threads", arguments.threads] if arguments.threads else []), *(["--compute", arguments.compute] if arguments.compute else [])]

    def infini(self, *arguments):
        done = subprocess.run([self.a.infini, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"infini {arguments[0]} failed")
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def write(self, name, value):
        file = self.folder / name
        file.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        return file

    def train(self, name, shape):
        """Two trainings, the second from what the first wrote; of text alone, one."""
        config = json.loads(self.a.model.read_text(encoding="utf-8"))
        config["tokenizer"] = str((self.a.model.parent / config["tokenizer"]).resolve())
        config.update({key: value for key, value in shape.items() if key != "keeps"})
        source = ["--create", self.write(f"{name}.config.json", config)]
        memory = config["layers"] - 1 if "update" in shape else None
        first = max(1, self.a.steps // 3)
        near = {"density": [24, 24], "distance": 48}
        far = {"density": [1, 12], "far": 0.5, "virtual_length": 1000}
        falling = {"schedule": "linear", "decay_from": 0.3}
        phases = ((first, 2, near, {"schedule": "constant", "feature_scale": 1.6}), (self.a.steps - first, 16, far, falling))
        if self.a.plain:
            phases = ((self.a.steps, self.a.sequence, None, falling),)
        tokens = seconds = 0
        for number, (steps, windows, task, more) in enumerate(phases, 1):
            text = self.write(f"{name}.{number}.json", description(self.a, steps, shape["segment"], memory, windows, task, self.a.seed + number, **more))
            out, log = (self.folder / f"{name}.{number}.{ending}" for ending in ("gguf", "jsonl"))
            summary = self.infini("train", *source, "--description", text, "--out", out, "--log", log,
                                  "--checkpoint", self.folder / f"{name}.{number}.state", "--json", *self.how)
            tokens += summary["tokens"]
            steps = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            seconds += sum(step.get("seconds", 0) for step in steps)
            source = [out]
        return out, {"tokens": tokens, "parameters": summary["parameters"], "seconds": seconds}

    def measure(self, model, shape):
        result = {"perplexity": {}, "pairs": {}, "positions": {}, "recall": {}}
        for path in self.a.held_out:
            text = self.folder / path.name
            text.write_bytes(path.read_bytes()[: self.a.held_out_bytes or None].decode(errors="ignore").encode())
            scored = self.infini("score", model, "--file", text, "--far", self.a.window, "--json", *self.how)
            for key in ("perplexity", "pairs", "positions"):
                result[key][path.stem] = scored[key]
        result["state_bytes"] = self.infini("feed", model, "--file", text, "--json", *self.how)["state_bytes"]
        if self.a.plain:
            return result
        lengths = ",".join(str(self.a.window // 2 * distance) for distance in self.a.distances)
        found = self.infini("passkey", model, "--length", lengths, "--depth", 0, "--trials", self.a.trials, "--names", self.a.names,
                            "--json", *self.how)["results"]
        for distance, cell in zip(self.a.distances, found):
            result["recall"][distance] = {"digits": cell["digit_accuracy"], "keys": cell["accuracy"], "tokens": cell["length"]}
        return result

    def run(self):
        results = []
        for name, shape in variants(self.a).items():
            if self.a.variants and name not in self.a.variants:
                continue
            model, trained = self.train(name, shape)
            results.append({"variant": name, "keeps": shape["keeps"], **trained, **self.measure(model, shape)})
            print(f"{name}: trained on {trained['tokens']:,} tokens in {trained['seconds']:.0f} s", file=sys.stderr)
        told = {"window": self.a.window, "segment": self.a.window // 2, "steps": self.a.steps, "tokens_per_step": self.a.tokens,
                "trials": self.a.trials, "names": self.a.names, "seed": self.a.seed, "results": results}
        self.write("results.json", told)
        (self.folder / "table.md").write_text(table(told), encoding="utf-8")
        try:
            plot.draw(plot.charts_of([self.write("charts.json", {"charts": charts(told)})]), self.folder / "charts.svg")
        except plot.Refused as error:
            print(f"no charts.svg: {error}", file=sys.stderr)
        return told


def size(count):
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def perplexity(part):
    return f"{math.exp(part['nll_mean']):.2f}" if part["tokens"] else "-"


def table(told):
    results = told["results"]
    books, distances = list(results[0]["perplexity"]), list(results[0]["recall"])
    head = ["variant", "keeps", "state", *(f"perplexity, {book.replace('_', ' ')}" for book in books), *PAIRS.values(),
            *(f"{distance} segments" for distance in distances)]
    lines = [head, ["---"] * len(head)]
    for r in results:
        lines.append([r["variant"], r["keeps"], size(r["state_bytes"]), *(f"{r['perplexity'][book]:.2f}" for book in books),
                      *(", ".join(perplexity(r["pairs"][book][pair]) for book in books) for pair in PAIRS),
                      *(f"{r['recall'][distance]['digits']:.2f}" for distance in distances)])
    one = results[0]
    recall = (f"; share of a pass key's digits found ({told['trials']} keys, {told['names']} in a text, chance 0.1), key and question so many "
              f"segments of {told['segment']} tokens apart" if distances else "")
    return (f"{one['parameters']:,} parameters, {one['tokens']:,} tokens of training, local window {told['window']} tokens{recall}.\n\n"
            + "".join("| " + " | ".join(line) + " |\n" for line in lines))


def charts(told):
    results = told["results"]
    names = [r["variant"] for r in results]
    books = list(results[0]["perplexity"])
    recall = {"title": "Digits of a pass key found", "x_label": "tokens between key and question", "powers_of_two": True, "percent": True,
              "series": [{"label": r["variant"], "x": [cell["tokens"] for cell in r["recall"].values()], "y": [100 * cell["digits"] for cell in r["recall"].values()]}
                         for r in results]}
    return [
        {"title": "Perplexity of held-out texts", "categories": names,
         "series": [{"label": book.replace("_", " "), "y": [r["perplexity"][book] for r in results]} for book in books]},
        *([recall] if results[0]["recall"] else []),
        {"title": "State of a session", "y_label": "kB", "categories": names, "series": [{"y": [r["state_bytes"] / 1000 for r in results]}]},
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--infini", default=ROOT / "build/release/samples/infini", help="the command")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "samples/train/quick_model.json", help="shape of the model, as infini train --create takes it")
    parser.add_argument("--plain", action="store_true", help="text alone, without recall and supervision")
    parser.add_argument("--sequence", type=int, default=32, help="with --plain: windows of a sequence")
    parser.add_argument("--train", type=pathlib.Path, nargs="+", default=[TEXTS / name for name in TRAINED], help="texts")
    parser.add_argument("--held-out", type=pathlib.Path, nargs="+", default=[TEXTS / name for name in HELD_OUT], help="texts to measure")
    parser.add_argument("--gate", type=float, default=0, help="where gates begin")
    parser.add_argument("--window", type=int, default=64, help="tokens of local attention, a multiple of 8")
    parser.add_argument("--steps", type=int, default=900, help="of each variant, both phases together")
    parser.add_argument("--tokens", type=int, default=8192, help="of a step")
    parser.add_argument("--distances", type=lambda text: [int(part) for part in text.split(",")], default=[2, 4, 8, 16, 32, 64, 128, 256],
                        help="between key and question, in segments of half a window")
    parser.add_argument("--trials", type=int, default=20, help="keys at each distance")
    parser.add_argument("--names", type=int, default=1, help="keys in a text, one of which is asked for")
    parser.add_argument("--held-out-bytes", type=int, default=0, help="of each text that is held out; 0: all")
    parser.add_argument("--variants", type=lambda text: text.split(","), default=[], help="some of them, by name")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compute", default="")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.window < 16 or arguments.window % 8 or arguments.steps < 2:
        parser.error("--window must be a multiple of 8 from 16 on, and --steps at least 2")
    if unknown := set(arguments.variants) - set(variants(arguments)):
        parser.error(f"--variants: {', '.join(sorted(unknown))} is none of {', '.join(variants(arguments))}")
    Comparison(arguments).run()
    print((pathlib.Path(arguments.folder) / "table.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
