"""Training on several processes: states equal to the bit, and what becomes of the others when one rank is in trouble."""
import array
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

MPIRUN = os.environ["INFINI_MPIRUN"]
TRAIN = os.environ["INFINI_MPI_TRAIN"]
STEPS = 6
TENSORS = 2 * 2048 * 32 + 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32)  # numbers of the model, gates aside


class Train(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

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


if __name__ == "__main__":
    unittest.main()
