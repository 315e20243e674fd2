#!/usr/bin/env python3
"""Teaches a model to summarise whole books, and prints how good its summaries are after a part of a book and after all of it.

    samples/books/books.py PAIRS.jsonl MODEL FOLDER --held-out TITLE...

PAIRS has a line {"title": ..., "book_file": ..., "summary": ...} for each book; paths are relative to its folder, or to --root.
Books whose titles are given by --held-out are read and summarised, and never trained on. FOLDER takes the model that was
taught, books.gguf, what it wrote, and a picture. What is there is not made again, so that a run that was stopped goes on.
INFINI names the command, where it is not in build/release; ROUGE is computed by js-rouge, which needs node and npm."""
import argparse
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMMAND = os.environ.get("INFINI", ROOT / "build/release/samples/infini")
ROUGE = "js-rouge@3.2.3"
MEASURES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}


def write(path, text):
    """Either all of it is there, or nothing."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.rename(path)


def infini(*arguments):
    """What the command prints as JSON."""
    done = subprocess.run([COMMAND, *map(str, arguments), "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def cue(title):
    """What stands between a book and its summary."""
    return f"\n\nThe story of {title}, in short:\n\n"


def read_pairs(path, root):
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            pair = json.loads(line)
            pairs.append({"title": pair["title"], "file": root / pair["book_file"], "summary": pair["summary"].strip()})
        except (ValueError, TypeError, KeyError, AttributeError):
            sys.exit(f'{path}:{number}: is not an object with the texts "title", "book_file" and "summary"')
    return pairs


class Tokens:
    """Counts tokens; a text of so many is cut by the letters that one has in it."""

    def __init__(self, model, folder):
        self.model, self.file = model, folder / "counted.txt"

    def count(self, text):
        self.file.write_text(text, encoding="utf-8")
        return infini("tokenize", self.model, "--file", self.file)["tokens"]


def excerpts(book, letters, pieces, draw):
    """Pieces from all over the book, in their order, so many letters in all: what a sequence holds of a book that is longer."""
    part, length = len(book) // pieces, min(letters, len(book)) // pieces
    starts = [i * part + draw.randrange(part - length + 1) for i in range(pieces)]
    return "\n\n".join(book[start:start + length].strip() for start in starts)


def documents(pairs, tokens, given):
    """A line for each book and drawing: excerpts and the summary, whose tokens alone are to be predicted."""
    draw = random.Random(1)
    read = []
    for pair in pairs:
        book = pair["file"].read_text(encoding="utf-8")
        letters = len(book) / tokens.count(book)
        summary = pair["summary"][:int(given.tokens / 4 * letters)]  # where sequences are short, its beginning
        room = given.tokens * 0.97 - tokens.count(cue(pair["title"]) + summary)
        read.append((book, cue(pair["title"]), summary, int(room * letters)))
    lines = []
    for _ in range(given.draws):
        draw.shuffle(read)
        for book, question, summary, room in read:
            before = excerpts(book, room, given.pieces, draw) + question
            begin = len(before.encode())
            lines.append(json.dumps({"text": before + summary, "spans": [[begin, begin + len(summary.encode()), 1]]}))
    return "\n".join(lines) + "\n"


def train(pairs, tokens, given):
    text, plan, model = (given.folder / name for name in ("documents.jsonl", "train.json", "books.gguf"))
    if not text.exists():
        write(text, documents(pairs, tokens, given))
    training = {"train": "lora", "optimizer": "adamw", "rate": given.rate, "schedule": "cosine", "steps": given.steps,
                "warmup": min(10, given.steps // 4), "tokens": given.tokens, "rows": given.tokens, "segment": given.segment,
                "segments": given.tokens // given.segment}
    if given.gate is not None:
        training["gates"] = [[-1, -1, given.gate]]
    plan.write_text(json.dumps({"training": training, "data": {"type": "jsonl", "files": [text.name], "weight": 0,
                                                               "unknown_text": "skip"}}), encoding="utf-8")
    if not model.exists():
        unfinished = given.folder / "unfinished.gguf"  # also what a training writes that is stopped
        subprocess.run([COMMAND, "train", given.model, "--description", plan, "--out", unfinished, "--type", "f16",
                        "--checkpoint", given.folder / "books.state", "--checkpoint-every", "5", "--log",
                        given.folder / "books.log.jsonl", "--threads", given.threads,
                        *(["--memory", "open"] if given.gate is not None else [])], check=True)
        unfinished.rename(model)
    return model


def summarise(model, pair, way, flags, shares, length, given):
    """What the model writes after each share of the book, a text for each seed. The book is read once: each reading goes on
    from the snapshot of the one before."""
    folder = given.folder / re.sub(r"\W+", "_", f"{pair['title']} {way}")
    folder.mkdir(exist_ok=True)
    flags = ["--segment", given.segment, "--threads", given.threads, *flags]
    written, before, read = {}, None, 0
    for share in shares:
        snapshot, until = folder / f"{share:g}.snap", int(length * share)
        if not snapshot.exists():
            unfinished = folder / "unfinished"  # also what is saved where reading is stopped
            infini("feed", model, *flags, "--file", pair["file"], "--save", unfinished, "--max-tokens", until - read,
                   *(["--load", before, "--skip", read] if before else []))
            unfinished.rename(snapshot)
        before, read = snapshot, until
        for seed in given.seeds:
            out = folder / f"{share:g}.{seed}.json"
            if not out.exists():
                write(out, json.dumps(infini("generate", model, *flags, "--load", snapshot, "--prompt", cue(pair["title"]),
                                             "--max-tokens", given.write, "--temperature", 0.8, "--top-p", 0.95,
                                             "--repetition-penalty", 1.1, "--ignore-end", "--seed", seed)))
            written.setdefault(share, []).append(json.loads(out.read_text(encoding="utf-8"))["text"])
    return written


def scores(of, given):
    """ROUGE of pairs of what was written and the reference."""
    packages = given.folder / "npm"
    if not (packages / "node_modules/js-rouge").exists():
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", packages, ROUGE],
                       check=True)
    lines = "".join(json.dumps({"written": text, "reference": reference}) + "\n" for text, reference in of)
    done = subprocess.run(["node", HERE / "rouge.mjs", packages], input=lines, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def mean(measured):
    return [100 * statistics.mean(score[name] for score in measured) for name in MEASURES]


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("pairs", type=pathlib.Path)
    parse.add_argument("model", type=pathlib.Path, help="one that was adapted, or any with --gate")
    parse.add_argument("folder", type=pathlib.Path)
    parse.add_argument("--held-out", nargs="+", required=True, metavar="TITLE", help="books to summarise")
    parse.add_argument("--root", type=pathlib.Path, help="folder that the paths of books are relative to; that of PAIRS")
    parse.add_argument("--gate", type=float, help="where the gates of a plain model start, such as -3: its memory counts little")
    parse.add_argument("--tokens", type=int, default=32768, help="of a sequence that is trained on, summary included")
    parse.add_argument("--segment", type=int, default=512)
    parse.add_argument("--pieces", type=int, default=16, help="that a sequence has of a book")
    parse.add_argument("--draws", type=int, default=8, help="sequences of each book")
    parse.add_argument("--steps", type=int, default=40, help="of training, a sequence each")
    parse.add_argument("--rate", type=float, default=0.001)
    parse.add_argument("--shares", default="0.125,0.25,0.5,1", help="of a book, after which its summary is written")
    parse.add_argument("--write", type=int, default=1024, help="tokens of a summary")
    parse.add_argument("--seeds", default="1,2,3", help="a summary each")
    parse.add_argument("--threads", default="0")
    given = parse.parse_args()
    given.root = given.root or given.pairs.parent
    given.shares, given.seeds = sorted(map(float, given.shares.split(","))), given.seeds.split(",")
    given.tokens -= given.tokens % given.segment
    given.folder = given.folder.resolve()
    given.folder.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(given.pairs, given.root)
    held_out = [pair for pair in pairs if pair["title"] in given.held_out]
    trained = [pair for pair in pairs if pair["title"] not in given.held_out]
    if len(held_out) != len(set(given.held_out)) or not trained:
        parse.error(f"--held-out wants some of these titles, not all: {', '.join(pair['title'] for pair in pairs)}")

    tokens = Tokens(given.model, given.folder)
    taught = train(trained, tokens, given)
    lengths = [tokens.count(pair["file"].read_text(encoding="utf-8")) for pair in held_out]
    print("Read: " + ", ".join(f"{pair['title']} ({length:,} tokens)" for pair, length in zip(held_out, lengths)) +
          f"; means of {len(given.seeds)} summaries of each\n")
    print("| | read | " + " | ".join(MEASURES.values()) + " |\n|---|---" + "|---" * len(MEASURES) + "|")

    def row(name, share, of):
        measured = mean(scores(of, given))
        print(f"| {name} | {share} | " + " | ".join(f"{value:.1f}" for value in measured) + " |", flush=True)
        return measured

    per_letter = tokens.count(" ".join(pair["summary"] for pair in trained)) / sum(len(pair["summary"]) for pair in trained)
    row("another book's, as long", "", [(other["summary"][:int(given.write / per_letter)], pair["summary"])
                                        for pair in held_out for other in trained])
    alone = ["--memory", "off", "--keep", "0"]
    lines = []
    for way, model, flags, shares in (("before it was taught", given.model, alone, given.shares[-1:]),
                                      ("window alone", taught, alone, given.shares),
                                      ("with its memory", taught, [], given.shares)):
        written = [summarise(model, pair, way, flags, shares, length, given) for pair, length in zip(held_out, lengths)]
        points = [row(way, f"{share:.0%}", [(text, pair["summary"]) for pair, texts in zip(held_out, written)
                                            for text in texts[share]]) for share in shares]
        lines += [{"label": f"{name}, {way}", "x": [100 * share for share in shares], "y": [point[i] for point in points]}
                  for i, name in enumerate(MEASURES.values()) if name != "ROUGE-2" and len(shares) > 1]
    chart = given.folder / "books.json"
    write(chart, json.dumps({"charts": [{"title": "Summaries after a part of the book", "x_label": "per cent of the book read",
                                         "y_label": "F1 in per cent", "series": lines}]}))
    subprocess.run([ROOT / "tests/bench/plot.py", chart, given.folder / "books.svg"], check=False)


if __name__ == "__main__":
    main()
