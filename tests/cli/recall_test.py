"""A minute's training teaches a tiny model to find in its memory what no window holds."""
import skips
from support import SOURCE, Test, unittest

RECIPE = SOURCE / "samples/train"
# Of ten digits, by chance. What must be reached is less than what is: 0.75 after 600 steps.
CHANCE, ENOUGH = 0.1, 0.4


class Recall(Test):
    def test_recall_across_segments_leaves_chance(self):
        out = self.folder / "quick.gguf"
        exact = ["--threads", 1, "--compute", "f32"]
        summary = self.json("train", "--create", RECIPE / "quick_model.json", "--description", RECIPE / "quick.json",
                            "--evaluate", RECIPE / "quick_evaluate.json", "--out", out, *exact)
        held_out, = summary["evaluation"]
        print(f"recall across segments: {held_out['recall_across']:.3f} of {held_out['answers_across']} digits")
        self.assertGreater(held_out["answers_across"], 500)
        self.assertGreater(held_out["recall_across"], ENOUGH)
        # The key four segments back is found by the memory, and without it no better than by chance.
        ask = ["passkey", out, "--length", 128, "--depth", 0, "--trials", 60, *exact]
        self.assertGreater(self.json(*ask)["results"][0]["digit_accuracy"], ENOUGH)
        self.assertLess(self.json(*ask, "--memory", "off")["results"][0]["digit_accuracy"], 2 * CHANCE)


if __name__ == "__main__":
    skips.main()
