"""The tokenizer that ships is what its script makes of the one that was trained."""
import json
import subprocess
import sys

import skips
from support import SOURCE, Test, unittest

TRAIN = SOURCE / "samples/train"
SHIPPED = SOURCE / "samples/models/words2048.gguf"


class Vocabulary(Test):
    def make(self, source, code=0):
        out = self.folder / "out.gguf"
        done = subprocess.run([sys.executable, TRAIN / "vocabulary.py", source, out, "words2048"], capture_output=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return out

    def test_the_shipped_one_can_be_made_again(self):
        self.assertEqual(self.make(TRAIN / "tokenizer.json").read_bytes(), SHIPPED.read_bytes())

    def test_words_and_digits_are_tokens(self):
        text = " The pass key is 71432."
        ids = self.json("tokenize", SHIPPED, "--text", text)["ids"]
        vocabulary = json.loads((TRAIN / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
        pieces = ["ĠThe", "Ġpass", "Ġkey", "Ġis", "Ġ", "7", "1", "4", "3", "2", "."]
        self.assertEqual(ids, [vocabulary[piece] for piece in pieces])
        self.assertEqual(self.json("detokenize", SHIPPED, *ids)["text"], text)

    def test_another_kind_is_refused(self):
        tokenizer = json.loads((TRAIN / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer["pre_tokenizer"]["pretokenizers"].pop(0)
        other = self.folder / "other.json"
        other.write_text(json.dumps(tokenizer), encoding="utf-8")
        self.assertFalse(self.make(other, code=1).exists())


if __name__ == "__main__":
    skips.main()
