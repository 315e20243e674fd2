"""The command for Windows, by Wine: names and texts in UTF-8, files that are replaced, Ctrl-C, and what a console shows."""
import json
import os
import signal
import subprocess
import time

import skips
from support import COMMAND, EXACT, NOVEL, STORIES, Test

NAME = "Größe ночь 日本 😀"


class Windows(Test):
    def test_names_arguments_and_output_are_utf8_and_lines_end_alike(self):
        text = "Zoë wondered: “où?”\nNobody knew. 日本"
        file = self.folder / (NAME + ".txt")
        file.write_bytes(text.encode())
        ids = self.json("tokenize", STORIES, "--file", file)["ids"]
        self.assertEqual(self.json("tokenize", STORIES, "--text", text)["ids"], ids)
        self.assertEqual(self.json("tokenize", STORIES, "--file", "-", stdin=text.encode())["ids"], ids)
        self.assertEqual(self.run_command("detokenize", STORIES, *ids)[0], text + "\n")
        saved = self.folder / (NAME + ".snap")
        self.json("feed", STORIES, "--file", file, "--save", saved, *EXACT)
        self.assertEqual(set(os.listdir(self.folder)), {file.name, saved.name})
        self.assertEqual(self.json("snapshot", saved)["position"], len(ids))
        self.assertIn(NAME + ".gguf", self.fails("info", self.folder / (NAME + ".gguf")))

    def test_a_path_may_be_longer_than_260_characters(self):
        folder = self.folder / ("a" * 200) / ("é" * 100)
        folder.mkdir(parents=True)
        saved = folder / "saved.snap"
        self.json("feed", STORIES, "--file", NOVEL, "--max-tokens", 100, "--save", saved, *EXACT)
        self.assertEqual(self.json("snapshot", saved)["position"], 100)

    def test_a_file_is_replaced_whole_and_what_the_killed_left_goes(self):
        saved, kept = self.folder / "saved.snap", self.folder / "kept.snap"
        feed = ("feed", STORIES, "--file", NOVEL, "--save", saved, *EXACT)
        self.json(*feed, "--max-tokens", 100)
        os.link(saved, kept)  # sees what is written into the file, and not what takes its place
        before = saved.read_bytes()
        (self.folder / ".infini-1-2-3.tmp").write_bytes(b"litter")
        self.json(*feed, "--max-tokens", 200)
        self.assertEqual(kept.read_bytes(), before)
        self.assertEqual(self.json("snapshot", saved)["position"], 200)
        self.assertEqual(set(os.listdir(self.folder)), {"saved.snap", "kept.snap"})
        # A folder of the name is refused.
        self.fails("feed", STORIES, "--file", NOVEL, "--max-tokens", 1, "--save", self.folder, *EXACT, says="folder")

    def test_ctrl_c_cancels_and_saves(self):
        saved = self.folder / "saved.snap"
        process = subprocess.Popen([COMMAND, "feed", STORIES, "--file", NOVEL, "--repeat", "--max-tokens", str(10**9),
                                    "--save", saved, "--json", *EXACT], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, errors)
        self.assertIn("cancelled", errors.decode())
        self.assertEqual(self.json("snapshot", saved)["position"], json.loads(output)["tokens"])

    def test_a_console_shows_progress(self):
        shown = self.errors_on_a_terminal("feed", STORIES, "--file", NOVEL, "--max-tokens", 60_000, *EXACT)
        self.assertIn(b"reading", shown)


if __name__ == "__main__":
    skips.main()
