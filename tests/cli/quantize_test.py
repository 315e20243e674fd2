"""infini quantize: what it writes, says and refuses."""
import unittest

import skips
from support import STORIES, Test


class Quantize(Test):
    def test_a_model_at_fewer_bits_is_smaller_and_foresees_nearly_as_well(self):
        text = self.folder / "text.txt"
        text.write_text("Once upon a time, there was a little girl named Lily. She loved to play outside in the park. " * 4)
        before = self.json("score", STORIES, "--file", text)["nll_mean"]
        made = self.folder / "made.gguf"
        done = self.json("quantize", STORIES, made, "--type", "q8_0")
        self.assertEqual(done["bytes"], made.stat().st_size)
        self.assertLess(done["bytes"], done["bytes_before"] / 2)
        self.assertEqual(set(done["tensor_types"]), {"F32", "Q8_0", "F16"})  # F16: rows of 172
        self.assertLess(abs(self.json("score", made, "--file", text)["nll_mean"] - before), 0.05)
        output, _ = self.run_command("quantize", STORIES, made, "--type", "q4_k")
        self.assertIn("Q5_0", output)  # rows of 64 are no whole blocks of 256
        self.assertIn("Q8_0", output)  # the output

    def test_a_table_compares_types_and_leaves_nothing_behind(self):
        text = self.folder / "text.txt"
        text.write_text("Once upon a time, there was a little girl named Lily. " * 8)
        made = self.folder / "made.gguf"
        rows = self.json("quantize", STORIES, made, "--table", "--text", text, "--types", "file,q8_0,q4_0", "--read", 64,
                         "--generate", 4)["results"]
        self.assertEqual([row["type"] for row in rows], ["file", "q8_0", "q4_0"])
        self.assertGreater(rows[0]["bytes"], rows[1]["bytes"])
        self.assertGreater(rows[1]["bytes"], rows[2]["bytes"])
        for row in rows:
            self.assertLess(abs(row["nll_mean"] - rows[0]["nll_mean"]), 0.5)
            self.assertGreater(row["generate_tokens_per_second"], 0)
        self.assertFalse(made.exists())

    def test_what_cannot_be_is_refused_and_nothing_is_written(self):
        made = self.folder / "made.gguf"
        _, errors = self.run_command("quantize", STORIES, made, "--type", "q9", code=1)
        self.assertIn("IQ4_XS", errors)
        self.run_command("quantize", STORIES, made, code=1)
        self.run_command("quantize", STORIES, "--table", code=1)
        self.run_command("quantize", self.folder / "absent.gguf", made, "--type", "q8_0", code=1)
        self.assertFalse(made.exists())


if __name__ == "__main__":
    skips.main()
