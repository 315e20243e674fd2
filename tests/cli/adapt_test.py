"""infini train --adapt: a plain model learns to use its memory, from the command line."""
import json
import os
import random
import signal
import struct
import subprocess
import time
import unittest

import skips
import support
from support import COMMAND, EXACT, NOVEL, SOURCE, STORIES

OTHER = SOURCE / "samples/texts/far_from_the_madding_crowd.txt"


def write_plain_model(path, layers=4, width=32, heads=4, kv_heads=2, hidden=48, context=512):
    """A plain model with weights at random, whose tokenizer has the digits and many names."""
    words = (SOURCE / "samples/models/words2048.gguf").read_bytes()
    version, _, count = struct.unpack_from("<IQQ", words, 4)
    text = lambda value: struct.pack("<Q", len(value)) + value.encode()
    whole = lambda key, value: text("llama." + key) + struct.pack("<II", 4, value)
    keys = {"block_count": layers, "embedding_length": width, "attention.head_count": heads, "attention.head_count_kv": kv_heads,
            "feed_forward_length": hidden, "context_length": context}
    extra = b"".join(whole(key, value) for key, value in keys.items())
    extra += text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5)
    kv = width // heads * kv_heads
    shapes = {"token_embd.weight": (width, 2048), "output_norm.weight": (width,)}
    for l in range(layers):
        for name, shape in {"attn_norm": (width,), "attn_q": (width, width), "attn_k": (width, kv), "attn_v": (width, kv),
                            "attn_output": (width, width), "ffn_norm": (width,), "ffn_gate": (width, hidden),
                            "ffn_up": (width, hidden), "ffn_down": (hidden, width)}.items():
            shapes[f"blk.{l}.{name}.weight"] = shape
    draw = random.Random(1)
    infos, data = b"", b""
    for name, shape in shapes.items():
        infos += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0] * size if len(shape) == 1 else [draw.gauss(0, shape[0] ** -0.5) for _ in range(size)]
        data += struct.pack(f"<{size}f", *values)
        data += b"\0" * (-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", version, len(shapes), count + len(keys) + 1) + words[24:] + extra + infos
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)


class Adapt(support.Test):
    def arguments(self, model, out, *more):
        return ["train", model, "--adapt", "--text", NOVEL, "--held-out", OTHER, "--held-out-tokens", "1024", "--evaluate-sequences", "1",
                "--borders", "1", "4", "--out", out, *EXACT, *more]

    def plain(self):
        path = self.folder / "plain.gguf"
        write_plain_model(path)
        return path

    def test_other_architectures_are_adapted(self):
        """Where heads can be fitted they are; models whose heads share norms, or have windows, learn from text alone."""
        config = {"layers": 4, "width": 32, "heads": 4, "kv_heads": 2, "head_size": 8, "hidden": 48, "context": 512, "segment": 32,
                  "tokenizer": str(SOURCE / "samples/models/words2048.gguf")}
        file = self.folder / "config.json"
        for architecture, fits in (("qwen2", True), ("phi3", True), ("qwen3", False), ("gemma3", False)):
            with self.subTest(architecture=architecture):
                created, out = (self.folder / f"{architecture}{name}.gguf" for name in ("", "-out"))
                file.write_text(json.dumps(dict(config, architecture=architecture, window=64 if architecture == "gemma3" else 0)))
                self.json("train", "--create", file, "--text", NOVEL, "--tokens", 256, "--steps", 1, "--out", created, *EXACT)
                result = self.json(*self.arguments(created, out, "--segment", "32", "--segments", "8", "--heads-least", "0", "--find-sequences", "1",
                                                   "--carrier-steps", "4", "--teach-sequences", "16", "--teach-steps", "4", "--steps", "6"))
                self.assertEqual(bool(result["heads"]), fits)
                self.assertIn("" if fits else "share norms", result.get("no_task", ""))
                self.assertEqual("no_task" in result, not fits)
                self.assertLess(result["after"]["nll"], result["before"]["nll"] + (0.5 if fits else 0))
                info = self.json("info", out)
                self.assertEqual((info["architecture"], info["trained_memory"], info["segment"]), (architecture, True, 32))

    def test_files_of_the_phases_are_no_others(self):
        plain = self.plain()
        for out in ("m.train.gguf", "m.teach3.gguf", "m.json"):
            self.fails(*self.arguments(plain, self.folder / out, "--checkpoint", self.folder / "m"), says="--checkpoint")

    def test_a_plain_model_is_adapted_phase_by_phase(self):
        plain, out, log = self.plain(), self.folder / "out.gguf", self.folder / "log.jsonl"
        result = self.json(*self.arguments(plain, out, "--segment", "32", "--segments", "8", "--heads-least", "0", "--find-sequences", "2",
                                           "--carrier-steps", "40", "--carrier-rate", "0.1", "--teach-sequences", "96", "--teach-steps", "160", "--steps", "12", "--log", log))
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        steps = lambda phase: [line for line in lines if line["phase"] == phase]
        self.assertEqual([line["step"] for line in steps("carriers")], list(range(1, 41)))
        self.assertEqual([line["step"] for line in steps("train")], list(range(1, 13)))
        mean = lambda reports, share: sum(report[share] or 0 for report in reports) / len(reports)
        self.assertGreater(mean(steps("carriers")[-5:], "subject_share"), 2 * mean(steps("carriers")[:5], "subject_share"))
        # One layer carries names to digits; above it each digit of a value has a group of heads, layer by layer.
        layer = result["carriers"][0][0]
        self.assertEqual([head for _, head in result["carriers"]], [result["carriers"][0][1], result["carriers"][0][1] + 1])
        self.assertEqual([place for _, _, place in result["heads"]], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
        self.assertEqual([memory for memory, _, _ in result["heads"]], [layer + 1] * 4 + [layer + 2] * 4 + [layer + 3] * 2)
        for taught in range(layer + 1, layer + 4):
            self.assertEqual([line["step"] for line in steps(f"teach{taught}")], list(range(1, 161)))
            shares = steps(f"teach{taught}")
            self.assertGreater(mean(shares[-10:], "source_share"), 1.5 * mean(shares[:10], "source_share"))
        remember = {(memory, head) for memory, head, _ in result["heads"]}
        for memory, gates in enumerate(result["gates"]):
            for head, gate in enumerate(gates):
                self.assertGreater(gate, 0.5) if (memory, head) in remember else self.assertEqual(gate, 0)
        for when in ("before", "after"):
            self.assertEqual(len(result[when]["recall"]), 2)
            self.assertLess(result[when]["nll"], 12)
        info = self.json("info", out)
        self.assertTrue(info["trained_memory"])
        self.assertEqual((info["segment"], info["carry"], info["sinks"], info["update"], info["first_segment"]), (32, 96, 4, "linear", "ungated"))
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["log.jsonl", "out.gguf", "plain.gguf"])

    def test_an_interrupted_adaptation_goes_on_as_if_it_had_not_been(self):
        plain, whole, parts = self.plain(), self.folder / "whole.gguf", self.folder / "parts.gguf"
        same = ["--heads-least", "0", "--segment", "32", "--segments", "4", "--find-sequences", "1", "--carrier-steps", "40",
                "--teach-sequences", "16", "--teach-steps", "40", "--steps", "40"]
        self.run_command(*self.arguments(plain, whole, *same))
        for phase in ("carriers", "teach2", "train"):
            log = self.folder / f"{phase}.jsonl"  # of this run alone: it says that the command is there to be interrupted
            running = subprocess.Popen([COMMAND, *map(str, self.arguments(plain, parts, *same, "--log", log))], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            until = time.monotonic() + 120
            while time.monotonic() < until and running.poll() is None and not (log.exists() and f'"phase":"{phase}"' in log.read_text()):
                time.sleep(0.01)
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=120)
            self.assertEqual(running.returncode, 1)
            self.assertIn("goes on", errors.decode())
        self.fails(*self.arguments(plain, parts, *same, "--seed", "2"), says='"seed" was 1 and is 2')
        otherwise = self.arguments(plain, parts, *same)
        otherwise[otherwise.index("--evaluate-sequences") + 1] = "2"
        self.fails(*otherwise, says='"evaluate_sequences" was 1 and is 2')
        self.run_command(*self.arguments(plain, parts, *same))
        self.assertEqual(whole.read_bytes(), parts.read_bytes())

    def test_a_model_without_heads_that_retrieve_learns_from_text(self):
        for part in ("gates", "lora", "all", "attention"):
            with self.subTest(part):
                out = self.folder / f"{part}.gguf"
                result = self.json(*self.arguments(STORIES, out, "--train", part, "--steps", "8", "--segments", "4"))
                self.assertIn("no head", result["no_task"])
                self.assertLess(result["after"]["nll"], result["before"]["nll"])
                self.assertTrue(self.json("info", out)["trained_memory"])

    def test_a_model_with_too_few_layers_learns_from_text(self):
        plain, out = self.folder / "plain.gguf", self.folder / "out.gguf"
        write_plain_model(plain, layers=2)
        result = self.json(*self.arguments(plain, out, "--heads-least", "0", "--find-sequences", "1", "--steps", "2", "--segments", "4"))
        self.assertIn("too few layers", result["no_task"])
        self.assertEqual((result["carriers"], result["heads"]), ([], []))

    def test_what_cannot_be_is_refused(self):
        plain, out = self.plain(), self.folder / "out.gguf"
        self.fails("train", plain, "--adapt", "--text", NOVEL, says="--out")
        self.fails("train", plain, "--adapt", "--out", out, says="--text")
        self.fails("train", "--adapt", "--text", NOVEL, "--out", out, says="MODEL")
        self.fails(*self.arguments(plain, out, "--adapt-layers", "1"), says="--adapt-layers")
        self.fails(*self.arguments(plain, out, "--train", "atention"), says="--train")
        self.fails(*self.arguments(plain, out, "--text-ratio", "1.5"), says="--text-ratio")
        self.fails(*self.arguments(plain, out, "--jsonl", OTHER), says="--jsonl does not go with --adapt")
        self.fails(*self.arguments(plain, plain), says="is the model that is trained")
        self.fails(*self.arguments(self.folder / "none.gguf", out), says="none.gguf")
        self.fails(*self.arguments(plain, out, "--heads-least", "0", "--find-sequences", "40", "--segment", "25", "--segments", "4"), says="--segment")
        (self.folder / "out.gguf.adapt.json").write_text("{}")
        self.fails(*self.arguments(plain, out), says="is damaged")
        self.assertFalse(out.exists())


if __name__ == "__main__":
    os.environ["LC_ALL"] = "C"
    skips.main()
