"""Logits of the golden models, however their tokens are cut."""
import json

import skips
from support import EXACT, FIXTURES, GOLDEN, STORIES, Test, numbers, read_npy, relative_difference, unittest

TOLERANCE = 2e-5  # of the standard deviation of the golden logits
MODELS = sorted(path.stem for path in (FIXTURES / "infini").glob("*.json"))


class Logits(Test):
    def logits(self, model, *flags):
        out = self.folder / "logits.npy"
        answer = self.json("logits", model, "--out", out, *flags, *EXACT)
        shape, values = read_npy(out)
        self.assertEqual(answer["shape"], list(shape))
        self.assertEqual(answer["tokens"], shape[0])
        return shape, values

    def test_golden_models_in_every_cut(self):
        self.assertGreater(len(MODELS), 8)
        for name in MODELS:
            files = FIXTURES / "infini" / name
            about = json.loads(files.with_suffix(".json").read_text())
            expected = numbers(f"{files}.logits.f32", "f")
            tokens = ",".join(map(str, numbers(f"{files}.tokens.i32", "i")))
            close = about.get("closes", "").replace("+", ",")
            for cut in (1, 3, 7, 0):
                with self.subTest(model=name, cut=cut):
                    flags = ["--cut", cut] + (["--close", close] if close else [])
                    shape, values = self.logits(f"{files}.gguf", "--tokens", tokens, *flags)
                    self.assertEqual(list(shape), about["logits"])
                    self.assertLess(relative_difference(values, expected), TOLERANCE)

    def test_text_begins_with_the_token_that_begins_texts(self):
        shape, values = self.logits(STORIES, "--text", GOLDEN["story"])
        self.assertEqual(shape, (1 + len(GOLDEN["story_ids"]), 512))
        self.assertLess(relative_difference(values[:512], GOLDEN["logits_after_bos"]), TOLERANCE)
        for actual, expected in zip(values[-512:], GOLDEN["story_last_logits_first8"]):
            self.assertAlmostEqual(actual, expected, delta=1e-4)

    def test_failures_leave_no_file(self):
        out = self.folder / "logits.npy"
        for flags in (["--tokens", "1,x"], ["--tokens", "1,512"], ["--tokens", "-1"], ["--tokens", ""], [],
                      ["--tokens", "1,2", "--close", "3"], ["--tokens", "1,2", "--close", "0"],
                      ["--tokens", "1,2", "--cut", "-1"]):
            with self.subTest(flags=flags):
                self.fails("logits", STORIES, "--out", out, *flags)
                self.assertFalse(out.exists())
        self.fails("logits", STORIES, "--tokens", "1", "--out", self.folder / "none" / "logits.npy", says="none")


if __name__ == "__main__":
    skips.main()
