"""tests/bench/compare.py: five variants on one budget, small enough to see that the comparison is fair."""
import json
import math
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml

import skips
from support import COMMAND, NOVEL, SOURCE, Test, unittest

VARIANTS = ["window", "transformer_xl", "sinks", "infini_linear", "infini_delta"]


class Compare(Test):
    def compare(self, *more):
        model = self.folder / "model.json"
        model.write_text(json.dumps({"layers": 1, "width": 32, "heads": 2, "kv_heads": 2, "hidden": 64, "tied": True,
                                     "tokenizer": str(SOURCE / "samples/models/words2048.gguf")}))
        done = subprocess.run([sys.executable, SOURCE / "tests/bench/compare.py", self.folder / "out", "--infini", COMMAND, "--model", model,
                               "--steps", "6", "--tokens", "1024", "--trials", "3", "--distances", "2,8", "--held-out-bytes", "20000",
                               "--threads", "1", "--compute", "f32", *more], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_variants_share_everything_but_their_past(self):
        table = self.compare()
        told = json.loads((self.folder / "out/results.json").read_text())
        results = told["results"]
        self.assertEqual([result["variant"] for result in results], VARIANTS)
        for key in ("parameters", "tokens"):
            self.assertEqual(len({result[key] for result in results}), 1, key)
        for name in VARIANTS:
            self.assertIn(f"| {name} | ", table)
        # Each read the same sequences: as many predictions of each kind, step by step.
        seen = set()
        for name in VARIANTS:
            logs = [json.loads(line) for phase in (1, 2) for line in (self.folder / f"out/{name}.{phase}.jsonl").read_text().splitlines()]
            steps = [line for line in logs if "loss" in line]
            self.assertEqual(len(steps), 6)
            seen.add(tuple((line["predictions"], line["answers_across"] + line["answers_inside"]) for line in steps))
        self.assertEqual(len(seen), 1)
        self.assertGreater(sum(answers for _, answers in seen.pop()), 0)
        # What the past costs: keys and values of as many tokens; a memory of 2 heads of 16 by 17 numbers, and its rest, more.
        bytes_of = {result["variant"]: result["state_bytes"] for result in results}
        self.assertEqual(bytes_of["infini_linear"], bytes_of["infini_delta"])
        self.assertGreaterEqual(bytes_of["infini_linear"] - bytes_of["transformer_xl"], 2 * 16 * 17 * 4)
        self.assertLess(abs(bytes_of["window"] - bytes_of["transformer_xl"]), 0.1 * bytes_of["window"])
        windows = {name: json.loads(subprocess.run([COMMAND, "info", self.folder / f"out/{name}.2.gguf", "--json"], capture_output=True).stdout)["window"]
                   for name in VARIANTS}
        self.assertEqual(set(windows.values()), {64})
        if shutil.which("gnuplot"):
            texts = xml.parse(self.folder / "out/charts.svg").getroot().iter("{http://www.w3.org/2000/svg}text")
            pictures = ["".join(text.itertext()).strip() for text in texts]
            for text in ("Perplexity of held-out texts", "Digits of a pass key found", "infini_delta"):
                self.assertIn(text, pictures)
        # Run again, nothing is trained again, and the same comes out.
        self.assertEqual(self.compare(), table)

    def test_of_plain_text_all_read_the_same_and_nobody_is_told_anything(self):
        held_out = self.folder / "held out.txt"
        held_out.write_text("Once upon a time there was a house. " * 200, encoding="utf-8")
        table = self.compare("--plain", "--sequence", "8", "--train", str(NOVEL), "--held-out", str(held_out), "--gate", "-2",
                             "--variants", "transformer_xl,infini_linear,long")
        told = json.loads((self.folder / "out/results.json").read_text())
        self.assertEqual([result["variant"] for result in told["results"]], ["transformer_xl", "infini_linear", "long"])
        seen = set()
        for result in told["results"]:
            self.assertEqual(result["recall"], {})
            lines = [json.loads(line) for line in (self.folder / f"out/{result['variant']}.1.jsonl").read_text().splitlines()]
            steps = [line for line in lines if "loss" in line]
            self.assertEqual([line["supervision"] for line in steps], [0] * 6)
            seen.add(tuple((line["predictions"], line["segments"] * line["segment"]) for line in steps))
            pairs = result["pairs"]["held out"]
            self.assertLess(pairs["new"]["tokens"], pairs["near"]["tokens"])
            self.assertIn(f"| {math.exp(pairs['new']['nll_mean']):.2f} | {math.exp(pairs['near']['nll_mean']):.2f} | ", table)
        self.assertEqual(seen, {((1022, 512),) * 6})


if __name__ == "__main__":
    skips.main()
