"""infini train: what it writes, how it goes on where it was stopped, and what it says meanwhile."""
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import skips
from support import COMMAND, EXACT, NOVEL, SOURCE, STORIES, Test, unittest

BOOKS = SOURCE / "samples/texts"
OTHER = BOOKS / "lord_jim.txt"
WORDS = SOURCE / "samples/models/words2048.gguf"
TINY = {"layers": 1, "width": 32, "heads": 2, "kv_heads": 1, "hidden": 64, "segment": 32, "tied": True, "tokenizer": "words.gguf"}
SMALL = ["--segment", 32, "--segments", 4, "--tokens", 256]
TIMES = ("seconds", "tokens_per_second")


class TrainTest(Test):
    def setUp(self):
        super().setUp()
        self.out, self.log, self.checkpoint = (self.folder / name for name in ("out.gguf", "log.jsonl", "state"))

    def train(self, *arguments):
        return self.json("train", *arguments, "--out", self.out, *EXACT)

    def write(self, name, value):
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(value), encoding="utf-8")
        return file

    def lines(self, log=None):
        return [json.loads(line) for line in (log or self.log).read_text(encoding="utf-8").splitlines()]

    def timeless(self, log=None):
        """What a log says, but for how long it took."""
        return [{key: value for key, value in line.items() if key not in TIMES} for line in self.lines(log)]


class Train(TrainTest):
    def test_a_text_is_learned(self):
        summary = self.train(STORIES, "--memory", "open", "--text", NOVEL, "--held-out", OTHER, "--steps", 40, "--rate", 0.003,
                             "--segments", 4, "--segment", 64, "--tokens", 512, "--warmup", 5, "--log", self.log, "--evaluate-every", 20)
        run, *lines = self.lines()
        self.assertEqual(run["run"]["trainer"]["parameters"], 260_032)
        self.assertEqual(run["run"]["trainer"]["training"]["rate"], 0.003)
        self.assertEqual(run["run"]["description"]["data"]["files"], [str(NOVEL)])
        self.assertEqual([line["step"] for line in lines if "loss" in line], list(range(1, 41)))
        measured = [line for line in lines if "evaluation" in line]
        self.assertEqual([line["step"] for line in measured], [0, 20, 40])
        first, middle, last = (line["evaluation"][0]["perplexity"] for line in measured)
        self.assertLess(middle, first)
        self.assertLess(last, 0.95 * first)
        self.assertEqual([len(layer) for layer in measured[2]["gates"]], [8] * 5)
        self.assertEqual(measured[0]["gates"], [[0.5] * 8] * 5)
        self.assertNotEqual(measured[2]["gates"], measured[0]["gates"])
        self.assertEqual(summary["evaluation"], measured[2]["evaluation"])
        self.assertEqual((summary["step"], summary["tokens"], summary["bytes"]), (40, 40 * 512, self.out.stat().st_size))
        info = self.json("info", self.out)
        self.assertTrue(info["trained_memory"])
        self.assertEqual(info["segment"], 64)
        picture = self.folder / "log.svg"
        if shutil.which("gnuplot"):
            subprocess.run([SOURCE / "tests/bench/plot.py", self.log, picture], check=True)
            self.assertIn("held out", picture.read_text(encoding="utf-8"))

    def test_files_name_what_is_near_them(self):
        """A configuration, a description and an evaluation, from another folder than the working one."""
        place = self.folder / "place"
        config = self.write("place/model.json", TINY)
        (place / "words.gguf").write_bytes(WORDS.read_bytes())
        (place / "book.txt").write_bytes(NOVEL.read_bytes()[:50_000])
        book = {"type": "text", "files": ["book.txt"]}
        recall = {"type": "recall", "prose": ["../place/book.txt"], "density": [12, 24]}
        description = self.write("place/description.json", {
            "training": {"steps": 3, "tokens": 512, "rate": 0.5, "seed": 5},
            "curriculum": {"stages": [{"segment": 32, "segments": 4, "density": [12, 24]}]},
            "data": {"type": "mixture", "sources": [{"ratio": 1, "source": book}, {"ratio": 3, "source": recall}]}})
        evaluation = self.write("place/evaluate.json", {"book": {"data": book, "sequences": 2}, "far": {"data": recall, "segments": [4, 8]}})
        summary = self.train("--create", config, "--description", description, "--evaluate", evaluation, "--rate", 0.001, "--log", self.log)
        run = self.lines()[0]["run"]
        self.assertEqual(run["trainer"]["training"]["rate"], 0.001)  # a flag goes before the description
        self.assertEqual(run["trainer"]["training"]["seed"], 5)
        self.assertEqual(run["create"]["tokenizer"], str(place / "words.gguf"))
        self.assertEqual([(result["name"], result["segments"], result["sequences"]) for result in summary["evaluation"]],
                         [("book", 4, 2), ("far", 4, 16), ("far", 8, 16)])
        self.assertIn("perplexity", summary["evaluation"][0])
        self.assertGreater(summary["evaluation"][2]["answers_across"], summary["evaluation"][1]["answers_across"])
        self.assertEqual(summary["step"], 3)
        self.assertEqual(self.json("info", self.out)["vocabulary"], 2048)

    def test_a_seed_says_what_is_drawn(self):
        config = self.write("model.json", dict(TINY, tokenizer=str(WORDS)))

        def model(seed):
            self.train("--create", config, "--recall", "--steps", 1, "--tokens", 128, "--seed", seed)
            return self.out.read_bytes()

        one, again, other = model(1), model(1), model(2)
        self.assertEqual(one, again)
        self.assertNotEqual(one, other)

    def test_values_to_recall_grow_farther(self):
        config = self.write("model.json", dict(TINY, tokenizer=str(WORDS)))
        arguments = ["--create", config, "--recall", "--prose", NOVEL, "--steps", 1, "--tokens", 1024, "--log", self.log]
        self.train(*arguments)
        self.assertEqual(self.lines()[0]["run"]["trainer"]["segments"], 4)  # the curriculum's first stage
        summary = self.train(*arguments, "--segments", 8)
        self.assertNotIn("curriculum", self.lines()[0]["run"]["description"])
        self.assertEqual(summary["segments"], 8)
        self.assertEqual([result["segments"] for result in summary["evaluation"]], [4, 16, 64])

    def test_adapters_stand_beside_the_model(self):
        adapter = self.folder / "adapter.gguf"
        self.train(STORIES, "--memory", "open", "--train", "lora", "--text", NOVEL, "--steps", 1, *SMALL, "--adapter", adapter)
        self.assertTrue(adapter.read_bytes().startswith(b"GGUF"))
        self.assertLess(adapter.stat().st_size, self.out.stat().st_size / 4)
        # Beside its base it gives what the file gives that both were merged into.
        text = self.folder / "text.txt"
        text.write_bytes(NOVEL.read_bytes()[:2000])

        def loss(model, *flags):
            return self.json("score", model, "--file", text, "--compute", "f32", *flags)["nll_mean"]
        self.assertAlmostEqual(loss(STORIES, "--adapter", adapter), loss(self.out), places=4)
        self.assertNotAlmostEqual(loss(STORIES), loss(self.out), places=3)
        self.assertGreater(self.json("info", STORIES, "--adapter", adapter)["adapted_matrices"], 0)

    def test_the_recipe_that_ships(self):
        recipe = SOURCE / "samples/train"
        summary = self.train("--create", recipe / "model.json", "--description", recipe / "recall.json", "--steps", 1, "--tokens", 128)
        self.assertEqual((summary["parameters"], summary["segment"], summary["segments"]), (5_310_720, 64, 16))

    def test_number_types(self):
        sizes = {}
        for kind in ("f32", "f16", "bf16"):
            self.train(STORIES, "--memory", "open", "--text", NOVEL, "--steps", 1, *SMALL, "--type", kind)
            sizes[kind] = self.out.stat().st_size
            self.json("info", self.out)
        self.assertEqual(sizes["f16"], sizes["bf16"])
        self.assertLess(sizes["f16"], 0.6 * sizes["f32"])

    def test_text_output_is_a_summary(self):
        output, _ = self.run_command("train", STORIES, "--memory", "open", "--text", NOVEL, "--held-out", OTHER, "--steps", 2, *SMALL,
                                     "--out", self.out, *EXACT)
        self.assertRegex(output, r"(?m)^steps +2$")
        self.assertRegex(output, r"(?m)^loss +\d\.\d+ nats$")
        self.assertNotIn("recall", output)  # a text asks for no values
        self.assertRegex(output, r"(?m)^held out +4 segments of 32: perplexity \d+\.\d+$")
        self.assertRegex(output, r"(?m)^gates, layer 4 ( 0\.50){8}$")

    def test_failures(self):
        book = ["--text", NOVEL]
        description = self.write("d.json", {"data": {"type": "recall"}, "curriculum": {}})
        one = ["--out", self.out, "--steps", 1]
        for arguments, says in (
                ((), "MODEL"),
                ((STORIES, *book, "--steps", 1), "--out"),
                ((STORIES, *book, "--out", self.out), "--steps"),
                ((STORIES, *one), "--text"),
                ((STORIES, *book, *one, "--steps", 0), "--steps"),
                ((STORIES, *book, "--steps", 1, "--out", STORIES), "another file"),
                ((STORIES, *book, "--steps", 1, "--out", self.folder), "folder"),
                ((STORIES, *book, "--steps", 1, "--out", self.folder / "no" / "out.gguf"), "--out"),
                ((STORIES, *book, *one, "--checkpoint", self.folder / "no" / "state"), "--checkpoint"),
                ((STORIES, *book, *one, "--checkpoint", f"{self.out.parent}/./{self.out.name}"), "--out names"),
                ((STORIES, *book, *one, "--log", STORIES), "the model that is trained"),
                ((STORIES, *book, *one, "--train", "lora", "--adapter", self.out), "--out names"),
                ((STORIES, *book, *one, "--checkpoint-every", 3), "--checkpoint"),
                ((STORIES, *book, *one, "--type", "q4"), "--type"),
                ((STORIES, *book, *one, "--rate", -1), "train.rate"),
                ((STORIES, *book, *one, "--train", "some"), "train.train"),
                ((STORIES, *book, *one, "--prose", NOVEL), "--recall"),
                ((STORIES, *book, *one, "--train", "gates"), "--memory open"),
                ((STORIES, "--text", self.folder / "none.txt", *one), "none.txt"),
                ((STORIES, *book, *one, "--adapter", self.folder / "a.gguf"), "--train lora"),
                ((STORIES, "--create", description, *book, *one), "--create"),
                ((STORIES, "--description", self.folder / "none.json", *one), "none.json"),
                ((STORIES, "--description", description, "--segments", 3, *one), "curriculum"),
                (("--create", self.write("c.json", {"leyers": 1}), *book, *one), "leyers"),
                (("--create", self.write("t.json", {"tokenizer": "none.gguf"}), *book, *one), str(self.folder / "none.gguf"))):
            with self.subTest(says=says):
                self.fails("train", *arguments, *EXACT, says=says)
        for name, text, says in (("empty", "", "not JSON"), ("list", "[1]", "object"), ("deep", '{"data":' + "[" * 100_000, "deeper"),
                                 ("part", '{"training": 1}', "training"), ("other", '{"date": 1, "data": {"type": "recall"}}', "date"),
                                 ("file", '{"data": {"type": "text", "files": ["gone.txt"]}}', str(self.folder / "gone.txt"))):
            file = self.folder / name
            file.write_text(text)
            self.fails("train", STORIES, "--description", file, *one, *EXACT, says=says)
        for entry, says in ((1, "data"), ({"data": {}, "segment": 1}, "segment"), ({"data": {}, "segments": [0]}, "0"), ({"data": {"type": "x"}}, "type")):
            self.fails("train", STORIES, *book, *one, *SMALL, "--evaluate", self.write("e.json", {"far": entry}), *EXACT, says=says)
        self.assertFalse(self.out.exists())

    def test_gradients_that_stay_infinite_end_it(self):
        """Weights of a file may be finite and too large for any sum of them."""
        model = self.folder / "huge.gguf"
        data = bytearray(STORIES.read_bytes())
        data[-4096:] = struct.pack("<f", 1e30) * 1024
        model.write_bytes(data)
        self.fails("train", model, "--memory", "open", "--text", NOVEL, "--steps", 100, "--out", self.out, *SMALL, *EXACT, says="--rate")
        self.assertFalse(self.out.exists())

    def test_an_error_keeps_what_was_learned(self):
        lines = self.folder / "lines.jsonl"
        text = json.dumps({"text": "Once upon a time there was a little girl. " * 20}) + "\n"
        lines.write_text(text * 8 + "no JSON\n")
        arguments = ["train", STORIES, "--memory", "open", "--jsonl", lines, "--steps", 40, "--out", self.out, *SMALL, *EXACT]
        said = self.fails(*arguments, says="lines.jsonl:9")
        done = int(re.search(r"the state after step (\d+) is in", said)[1])
        self.assertGreater(done, 1)
        lines.write_text(text * 20)
        self.assertIn(f"goes on after step {done}", self.run_command(*arguments, "--checkpoint", f"{self.out}.checkpoint")[0])

    def test_what_cannot_be_saved_does_not_cost_the_rest(self):
        """A folder that goes while the training runs: the model is written without the state, and the state without the model."""
        gone = self.folder / "gone"
        for lost, kept, says in (("--checkpoint", "--out", "the model after step"), ("--out", "--checkpoint", "the state after step")):
            with self.subTest(lost=lost):
                gone.mkdir()
                paths = {lost: gone / "a", kept: self.folder / f"kept{kept}"}
                process = subprocess.Popen([COMMAND, *map(str, ["train", STORIES, "--memory", "open", "--text", NOVEL, "--steps", 100, "--log", self.log, *SMALL, *EXACT]),
                                            *(str(part) for pair in paths.items() for part in pair)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                while process.poll() is None and not (self.log.exists() and self.log.read_bytes().count(b"\n") > 2):
                    time.sleep(0.001)
                process.send_signal(signal.SIGSTOP)
                shutil.rmtree(gone)
                process.send_signal(signal.SIGCONT)
                _, errors = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 1)
                self.assertIn(str(gone), errors)
                self.assertIn(f"; {says} 100 is in {paths[kept]}", errors)
                self.assertGreater(paths[kept].stat().st_size, 100_000)
                self.log.unlink()

    def test_a_file_that_is_no_log_stays(self):
        self.log.write_text("my notes\n")
        self.fails("train", STORIES, "--text", NOVEL, "--steps", 1, "--out", self.out, "--log", self.log, *SMALL, *EXACT, says="name another")
        self.assertEqual(self.log.read_text(), "my notes\n")

    def test_a_terminal_sees_one_line(self):
        arguments = ["train", STORIES, "--memory", "open", "--recall", "--steps", 20, "--tokens", 256, "--out", self.out, *EXACT]
        shown = self.errors_on_a_terminal(*arguments).decode()
        self.assertRegex(shown, r"step \d+/20  loss \d+\.\d{3}  recall \d\.\d\d  [\d,]+ tokens/s  32 x 4  \d+ (s|min) left")
        self.assertNotIn("\n", shown)
        self.assertTrue(shown.endswith("\r\x1b[K"))


class Continue(TrainTest):
    """Stopped and gone on with: the model, the checkpoint and the log are those of a training that was not."""

    steps = 24

    def setUp(self):
        super().setUp()
        book = {"type": "text", "files": [str(NOVEL)]}
        recall = {"type": "recall", "prose": [str(NOVEL)]}
        self.training = {"tokens": 8192, "schedule": "linear", "warmup": 5}
        self.description = {
            "training": self.training,
            "curriculum": {"threshold": 0, "distance": 1000, "stages": [{"segment": 32, "segments": count, "density": [12, 24]} for count in (4, 8)]},
            "data": {"type": "mixture", "sources": [{"ratio": 1, "source": book}, {"ratio": 3, "source": recall}]}}
        evaluation = {"book": {"data": dict(book, order="excerpts"), "sequences": 2}, "far": {"data": recall, "segments": 4, "sequences": 2}}
        self.arguments = ["train", "--create", self.write("model.json", dict(TINY, tokenizer=str(WORDS))), "--description", self.folder / "d.json",
                          "--evaluate", self.write("e.json", evaluation), "--evaluate-every", 10, *EXACT]

    def files(self, name):
        return {"--out": self.folder / f"{name}.gguf", "--log": self.folder / f"{name}.jsonl", "--checkpoint": self.folder / f"{name}.state"}

    def command(self, name, steps=None):
        self.write("d.json", self.description)
        named = [part for pair in self.files(name).items() for part in pair]
        return [*map(str, [*self.arguments, "--steps", steps or self.steps, "--checkpoint-every", 5, *named])]

    def stop(self, name, how, after):
        """Lets the training run until its log has that many lines, and stops it; returns the exit code and stderr."""
        process = subprocess.Popen([COMMAND, *self.command(name)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        log = self.files(name)["--log"]
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.read_bytes().count(b"\n") >= after:
                process.send_signal(how)
                break
            time.sleep(0.005)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors.decode()

    def assert_same(self, one, other):
        one, other = self.files(one), self.files(other)
        for kind in ("--out", "--checkpoint"):
            self.assertEqual(one[kind].read_bytes(), other[kind].read_bytes(), kind)
        logs = [self.timeless(files["--log"]) for files in (one, other)]
        self.assertEqual(len(logs[0]), len(logs[1]))
        for a, b in zip(*logs):
            self.assertEqual(a, b)

    def test_interrupted_or_killed_training_goes_on_as_if_it_had_not_been(self):
        self.run_command(*self.command("whole"))
        for name, how, after in (("interrupted", signal.SIGINT, 8), ("ended", signal.SIGTERM, 13), ("killed", signal.SIGKILL, 10)):
            with self.subTest(name):
                code, errors = self.stop(name, how, after)
                files = self.files(name)
                if how == signal.SIGKILL:
                    self.assertEqual(code, -signal.SIGKILL)
                    self.assertTrue(files["--checkpoint"].exists())
                    with files["--log"].open("a") as log:
                        log.write('{"step": 9, "lo')  # what a kill may leave
                else:
                    self.assertEqual(code, 1, errors)
                    done = int(re.fullmatch(rf"infini: cancelled after (\d+) of {self.steps} steps; .* the same command goes on\n", errors)[1])
                    self.assertLess(done, self.steps)
                    self.assertEqual(self.json("info", files["--out"])["vocabulary"], 2048)
                output, _ = self.run_command(*self.command(name))
                self.assertIn("goes on after step", output)
                self.assert_same("whole", name)
        lengths = [line["segments"] for line in self.timeless(self.files("whole")["--log"]) if "loss" in line]
        self.assertEqual((lengths[0], lengths[-1]), (4, 8))  # the curriculum went on meanwhile

    def test_a_training_that_is_done_is_not_done_again(self):
        self.arguments += ["--json"]
        first = json.loads(self.run_command(*self.command("one", 3))[0])
        before = self.timeless(self.files("one")["--log"])
        again = json.loads(self.run_command(*self.command("one", 3))[0])
        self.assertEqual((first["step"], again["step"]), (3, 3))
        self.assertEqual(self.timeless(self.files("one")["--log"]), before)
        # The schedule ends with the steps, so more of them are another training.
        self.fails(*self.command("one", 4), says='"steps" was 3 and is 4')

    def test_a_description_may_be_tried_in_parts(self):
        self.training["steps"] = 8
        self.run_command(*self.command("parts", 3))
        self.run_command(*self.command("parts", 8))
        self.run_command(*self.command("whole", 8))
        files = [self.files(name) for name in ("parts", "whole")]
        self.assertEqual(*(one["--out"].read_bytes() for one in files))

    def test_without_a_checkpoint_an_interrupt_saves_one(self):
        command = self.command("loose")
        place = command.index("--checkpoint")
        del command[place : place + 2]
        self.assertIn("name the file, --checkpoint", self.run_command(*command, code=1)[1])
        place = command.index("--checkpoint-every")
        del command[place : place + 2]
        process = subprocess.Popen([COMMAND, *command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        log = self.files("loose")["--log"]
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 4):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1)
        saved = str(self.files("loose")["--out"]) + ".checkpoint"
        self.assertIn(f"with --checkpoint {saved} goes on", errors.decode())
        self.assertGreaterEqual(json.loads(output)["step"], 1)
        again, _ = self.run_command(*command, "--checkpoint", saved)
        self.assertIn("goes on after step", again)

    def test_a_checkpoint_of_an_earlier_version(self):
        """Version 0.1 of November 2026, before its first release, stopped after step 4, and made 8 steps in one go."""
        folder = SOURCE / "tests/fixtures/checkpoints"
        for name, description in (("1", "training"), ("lora", "lora")):  # that of adapters also holds what they had changed
            state, out = self.folder / f"{name}.state", self.folder / f"{name}.gguf"
            shutil.copy(folder / state.name, state)
            said, _ = self.run_command("train", folder / "model.gguf", "--description", folder / f"{description}.json", "--steps", 8,
                                       "--checkpoint", state, "--out", out)
            self.assertIn("goes on after step 4", said)
            weights = [struct.unpack("<18000f", file.read_bytes()[-72000:]) for file in (folder / out.name, out, folder / "model.gguf")]
            off = [abs(a - b) for a, b in zip(*weights[:2])]  # bf16, where a processor has it, beside the f32 of then
            changed = [abs(a - b) for a, b in zip(*weights[1:])]
            self.assertGreater(max(changed), 1e-3)
            self.assertLess(sum(off), 0.01 * sum(changed))
            self.assertLess(max(off), 0.05 * max(changed))

    def test_an_interrupt_before_the_first_step(self):
        process = subprocess.Popen([COMMAND, *self.command("none"), "--tokens", "10000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        log = self.files("none")["--log"]
        while process.poll() is None and not log.exists():
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, output, errors), (1, b"", b"infini: cancelled\n"))
        self.assertFalse(self.files("none")["--out"].exists())


if __name__ == "__main__":
    skips.main()
