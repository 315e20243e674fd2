"""Training, and reading, on several processes: states equal to the bit, and what becomes of the others when one rank is in trouble."""
import array
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

import skips

MPIRUN = os.environ["INFINI_MPIRUN"]
TRAIN = os.environ["INFINI_MPI_TRAIN"]
COMMAND = os.environ.get("INFINI_COMMAND", "")
STORIES = os.path.join(os.environ["INFINI_SOURCE_DIR"], "samples/models/stories260K.gguf")
WORDS = os.path.join(os.environ["INFINI_SOURCE_DIR"], "samples/models/words2048.gguf")
STEPS = 6
TENSORS = 2 * 2048 * 32 + 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32)  # numbers of the model, gates aside


class Test(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)


class Train(Test):
    def train(self, ranks, name, *trouble, steps=STEPS, code=0):
        """Runs the training to its end, be it good or bad; alone without mpirun. A rank that waits for ever is a failure."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        start = [MPIRUN, "-n", str(ranks)] if ranks > 1 else []
        done = subprocess.run([*start, TRAIN, folder, str(steps), *map(str, trouble)], capture_output=True, text=True, timeout=100)
        if code == 0:
            self.assertEqual(done.returncode, 0, done.stderr)
        else:
            self.assertNotEqual(done.returncode, 0, done.stdout)
        return folder, done

    def assert_same_states(self, folder, ranks):
        states = [(folder / f"state.{rank}").read_bytes() for rank in range(ranks)]
        self.assertGreater(len(states[0]), 100_000)
        for state in states[1:]:
            self.assertTrue(state == states[0], "the ranks' states differ")

    def assert_near(self, folder, expected, bound):
        """The models' weights: all tensors, as float32, end the files behind heads of one size."""
        a, b = ((path / "model.gguf").read_bytes() for path in (folder, expected))
        self.assertEqual(len(a), len(b))
        a, b = (array.array("f", data[-4 * TENSORS :]) for data in (a, b))
        worst = max(abs(x - y) for x, y in zip(a, b)) / max(map(abs, b))
        print(f"{folder.name}: weights differ by {worst:.2g} of the largest")
        self.assertLess(worst, bound)

    def assert_checkpoint_goes_on(self, folder, ranks):
        """The last checkpoint, saved by more ranks, leads `ranks` of them to where one process alone comes."""
        self.train(ranks, folder.name)
        if ranks > 1:
            self.assert_same_states(folder, ranks)
        alone, _ = self.train(1, "alone")
        self.assert_near(folder, alone, 1e-3)

    def test_states_are_the_same_on_all_ranks(self):
        alone, one = self.train(1, "one")
        expected = [json.loads(line) for line in one.stdout.splitlines()]
        for ranks in 2, 4:
            folder, several = self.train(ranks, f"ranks{ranks}")
            self.assert_same_states(folder, ranks)
            self.assert_near(folder, alone, 1e-3)
            for line, reference in zip(several.stdout.splitlines(), expected, strict=True):
                found = json.loads(line)
                self.assertAlmostEqual(found["loss"], reference["loss"], delta=1e-4)
                for key in "predictions", "answers_across", "answers_inside":
                    self.assertEqual(found[key], reference[key])

    def test_a_killed_rank_ends_the_others_and_fewer_go_on(self):
        folder, done = self.train(4, "killed", "killed", 2, 3, code=1)
        self.assertIn("signal 9", done.stderr)
        self.assertFalse((folder / "state.0").exists())
        self.assert_checkpoint_goes_on(folder, 2)

    def test_the_first_rank_may_be_the_one_that_dies(self):
        folder, _ = self.train(2, "killed", "killed", 0, 3, code=1)
        self.assert_checkpoint_goes_on(folder, 1)

    def test_a_sum_that_fails_ends_all(self):
        folder, done = self.train(4, "failed", "fails", 1, 3, code=1)
        self.assertIn("rank 1 of 4: the callback that adds up over ranks returned 5", done.stderr)
        self.assert_checkpoint_goes_on(folder, 4)

    def test_an_error_of_one_rank_alone_ends_all(self):
        _, done = self.train(2, "thrown", "throws", 1, 3, code=1)
        self.assertIn("rank 1 of 2: trouble in step 3", done.stderr)

    def test_a_cancel_on_one_rank_ends_the_step_of_all_and_they_live(self):
        folder, done = self.train(4, "cancelled", "cancelled", 3, 3)
        self.assertEqual(done.stdout.count("rank 3 of 4 was cancelled"), 3)
        self.assert_same_states(folder, 4)
        self.assertEqual((folder / "state.0").read_bytes(), (folder / "checkpoint").read_bytes())
        self.assert_checkpoint_goes_on(folder, 2)


@unittest.skipUnless(COMMAND, "the command is not built")
class Command(Test):
    """infini train, started by mpirun."""

    def command(self, ranks, name, steps, every):
        config, evaluation = self.folder / "model.json", self.folder / "evaluate.json"
        config.write_text(json.dumps({"layers": 1, "width": 32, "heads": 2, "kv_heads": 1, "hidden": 64, "segment": 32, "tokenizer": WORDS}))
        evaluation.write_text(json.dumps({"values": {"data": {"type": "recall", "seed": 7}, "segments": 8, "sequences": 3}}))
        self.out, self.log, self.state = (self.folder / f"{name}.{kind}" for kind in ("gguf", "jsonl", "state"))
        return [*([MPIRUN, "-n", str(ranks)] if ranks > 1 else []), COMMAND, "train", "--create", config, "--recall", "--evaluate", evaluation,
                "--tokens", "1024", "--steps", str(steps), "--evaluate-every", str(every), "--threads", "1", "--compute", "f32", "--json",
                "--out", self.out, "--log", self.log, "--checkpoint", self.state, "--checkpoint-every", "1"]

    def train(self, ranks, name, steps, every):
        done = subprocess.run(self.command(ranks, name, steps, every), capture_output=True, text=True, timeout=100)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.count("\n"), 1)  # of the first rank alone
        return json.loads(done.stdout)

    def children(self, pid):
        return list(map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def steps_logged(self):
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line["step"] for line in lines if "loss" in line], [line["step"] for line in lines if "evaluation" in line]

    def test_several_train_as_one_does(self):
        alone, several = self.train(1, "one", 6, 2), self.train(2, "two", 6, 2)
        self.assertEqual(self.steps_logged(), ([1, 2, 3, 4, 5, 6], [0, 2, 4, 6]))
        self.assertGreater(several["predictions"], 0)
        self.assertEqual((several["predictions"], several["tokens"]), (alone["predictions"], alone["tokens"]))
        self.assertAlmostEqual(several["loss"], alone["loss"], delta=1e-4)
        for found, expected in zip(several["evaluation"], alone["evaluation"], strict=True):
            self.assertEqual(found["answers_across"], expected["answers_across"])
            self.assertAlmostEqual(found["loss"], expected["loss"], delta=1e-4)

    def test_an_error_of_all_leaves_the_first_one_time_to_save(self):
        lines = self.folder / "lines.jsonl"
        text = json.dumps({"text": "Once upon a time there was a little girl. " * 40}) + "\n"
        lines.write_text(text * 40 + "no JSON\n")
        command = [part for part in self.command(2, "bad", 200, 0) if part != "--recall"]
        place = command.index("--checkpoint-every")
        del command[place : place + 2]
        place = command.index("--checkpoint")
        del command[place : place + 2]
        begin = time.monotonic()
        done = subprocess.run([*command, "--jsonl", lines, "--segment", "32", "--segments", "8"], capture_output=True, text=True, timeout=50)
        self.assertLess(time.monotonic() - begin, 40)  # the others do not linger longer than the first one
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("lines.jsonl:41", done.stderr)
        self.assertIn(f"is in {self.out}.checkpoint", done.stderr)
        self.assertGreater(pathlib.Path(f"{self.out}.checkpoint").stat().st_size, 100_000)
        self.assertEqual(list(self.folder.glob(".infini-*")), [])

    def test_an_interrupt_saves_and_another_number_of_processes_goes_on(self):
        steps, every = 40, 10
        process = subprocess.Popen(self.command(2, "stopped", steps, every), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        while process.poll() is None and not (self.log.exists() and self.log.read_text().count("\n") > 4):
            time.sleep(0.01)
        os.kill(max(self.children(process.pid)), signal.SIGINT)  # any rank will do
        output, errors = process.communicate(timeout=100)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("infini: cancelled after ", errors)
        self.assertIn("the same command goes on", errors)
        self.assertLess(json.loads(output)["step"], steps)
        self.assertTrue(self.out.exists())
        # With 3, from a log that only the first of them reads.
        self.assertEqual(self.train(3, "stopped", steps, every)["step"], steps)
        self.assertEqual(self.steps_logged(), (list(range(1, steps + 1)), list(range(0, steps + 1, every))))


@unittest.skipUnless(COMMAND, "the command is not built")
class Feed(Test):
    """infini feed --merge, started by mpirun."""
    TEXTS = ["Once upon a time there was a girl. " * 40, "The boy had a red ball. " * 70, "A bird sat in the tree. " * 10]

    def feed(self, ranks, texts, name="memory"):
        saved = self.folder / f"{name}.{ranks}"
        start = [MPIRUN, "-n", str(ranks)] if ranks > 1 else []
        done = subprocess.run([*start, COMMAND, "feed", STORIES, "--memory", "open", "--segment", "32", "--carry", "32", "--keep", "40",
                               "--threads", "1", "--merge", *texts, "--memory-only", "--save", saved, "--json"],
                              capture_output=True, text=True, timeout=100)
        return saved, done

    def test_what_several_processes_read_is_what_one_reads(self):
        texts = [self.folder / f"text{i}" for i in range(len(self.TEXTS))]
        for path, text in zip(texts, self.TEXTS):
            path.write_text(text)
        for ranks, count in (2, 2), (3, 3), (2, 3), (4, 3):
            alone, one = self.feed(1, texts[:count], f"one{count}")
            saved, several = self.feed(ranks, texts[:count], f"several{count}")
            self.assertEqual((several.returncode, several.stderr), (0, ""))
            one, several = json.loads(one.stdout), json.loads(several.stdout)  # of the first rank alone
            for key in "texts", "tokens", "memory_tokens", "kept_tokens":
                self.assertEqual(several[key], one[key])
            if (ranks, count) != (2, 3):  # there the third text is added before the second one
                difference = subprocess.run([COMMAND, "snapshot", alone, "--diff", saved, "--json"], capture_output=True, text=True)
                self.assertTrue(json.loads(difference.stdout)["identical"], difference.stdout)

    def test_a_text_that_one_of_them_cannot_read_ends_all_and_saves_nothing(self):
        good, bad = self.folder / "good", self.folder / "bad"
        good.write_text(self.TEXTS[0])
        bad.write_bytes(b"Once upon \xff")
        saved, done = self.feed(2, [good, bad])
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("rank 1 of 2", done.stderr)
        self.assertFalse(saved.exists())


if __name__ == "__main__":
    skips.main()
