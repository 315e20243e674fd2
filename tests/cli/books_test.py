"""samples/books: a model learns to summarise books, and its summaries are measured."""
import json
import os
import shutil
import subprocess
import unittest

import skips
import support
from support import COMMAND, SOURCE, STORIES

NOVELS = {"Heights": "wuthering_heights", "Jim": "lord_jim", "The Crowd": "far_from_the_madding_crowd"}


class Books(support.Test):
    def setUp(self):
        super().setUp()
        self.pairs = self.folder / "pairs.jsonl"
        lines = []
        for title, novel in NOVELS.items():
            text = (SOURCE / f"samples/texts/{novel}.txt").read_text(encoding="utf-8")
            (self.folder / f"{title}.txt").write_text(text[:20000], encoding="utf-8")
            summary = f"There was a house. In it lived {title}, and was happy. One day there came a dog."
            lines.append(json.dumps({"title": title, "book_file": f"{title}.txt", "summary": summary}))
        self.pairs.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.out = self.folder / "out"

    def books(self, *more):
        return subprocess.run(
            [SOURCE / "samples/books/books.py", self.pairs.name, STORIES, self.out.name, "--gate", "-3", "--tokens", "512", "--segment",
             "64", "--draws", "2", "--steps", "4", "--shares", "0.5,1", "--write", "40", "--seeds", "1,2", "--threads", "1",
             *more], cwd=self.folder, env={**os.environ, "INFINI": COMMAND}, capture_output=True, text=True, timeout=300)

    def test_a_title_that_is_no_book_is_refused(self):
        done = self.books("--held-out", "Emma")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("Heights, Jim, The Crowd", done.stderr)
        self.pairs.write_text('{"title": "A"}\n', encoding="utf-8")
        done = self.books("--held-out", "A")
        self.assertIn("pairs.jsonl:1:", done.stderr)

    @unittest.skipUnless(shutil.which("npm"), "ROUGE needs `npm`")
    def test_summaries_are_learned_written_and_measured_and_nothing_is_made_twice(self):
        self.out.mkdir()
        rouge = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts",
                                "--fetch-retries=1", "--prefix", self.out / "npm", "js-rouge@3.2.3"])
        if rouge.returncode:
            self.skipTest("npm cannot install js-rouge")
        done = self.books("--held-out", "The Crowd")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = (self.out / "documents.jsonl").read_text(encoding="utf-8").splitlines()
        self.assertEqual(len(lines), 4)  # two drawings of two books
        for line in map(json.loads, lines):
            (begin, end, weight), = line["spans"]
            learned = line["text"].encode()[begin:end].decode()
            self.assertRegex(learned, r"^There was a house\. In it lived (Heights|Jim), and was happy\. One day there came a dog\.$")
            self.assertEqual(weight, 1)
            self.assertNotIn("The Crowd", line["text"])
        table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("|")]
        self.assertEqual([row[:2] for row in table[2:]],
                         [["another book's, as long", ""], ["before it was taught", "100%"], ["window alone", "50%"],
                          ["window alone", "100%"], ["with its memory", "50%"], ["with its memory", "100%"]])
        self.assertGreater(float(table[2][2]), 80)  # the same sentences, but for a name
        for row in table[3:]:
            self.assertLess(float(row[2]), 80)
        read = json.loads((self.out / "books.json").read_text(encoding="utf-8"))["charts"][0]["series"]
        self.assertEqual([len(line["y"]) for line in read], [2] * 4)
        half, whole = (self.json("snapshot", self.out / "The_Crowd_with_its_memory" / name) for name in ("0.5.snap", "1.snap"))
        self.assertEqual(half["position"], whole["position"] // 2)
        times = {path: path.stat().st_mtime_ns for path in self.out.glob("*/*.*") if path.suffix in (".snap", ".json")}
        self.assertEqual(self.books("--held-out", "The Crowd").stdout.splitlines()[-8:], done.stdout.splitlines()[-8:])
        self.assertEqual({path: path.stat().st_mtime_ns for path in times}, times)


if __name__ == "__main__":
    skips.main()
