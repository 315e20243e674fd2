"""Streams: any length through a pipe, in fixed memory, and an interrupt at any time."""
import json
import re
import signal
import struct
import subprocess
import time

import skips
from support import COMMAND, EXACT, NOVEL, SOURCE, STORIES, Test, hears, spoken, takes, unittest, works_for

MEGABYTE = 1_000_000


class Feed(Test):
    def feed_in_fixed_memory(self, total):
        feed = self.json("feed", STORIES, "--file", NOVEL, "--repeat", "--max-tokens", total, "--every", 100_000, *EXACT)
        self.assertEqual(feed["tokens"], total)
        rows = feed["results"]
        self.assertEqual([row["tokens"] for row in rows], list(range(100_000, total + 1, 100_000)))
        self.assertLess(rows[-1]["resident_bytes"] - rows[0]["resident_bytes"], MEGABYTE)
        self.assertLess(max(row["session_bytes"] for row in rows), 10 * MEGABYTE)

    def test_memory_does_not_grow(self):
        self.feed_in_fixed_memory(300_000)

    def test_a_pipe_reads_as_the_file_does(self):
        text = NOVEL.read_bytes()[:200_000]
        file = self.folder / "text.txt"
        file.write_bytes(text)
        by_file = self.json("feed", STORIES, "--file", file, *EXACT)
        by_pipe = self.json("feed", STORIES, "--file", "-", *EXACT, stdin=text)
        self.assertEqual(by_pipe["tokens"], by_file["tokens"])
        self.assertEqual(by_pipe["tokens"], self.json("tokenize", STORIES, "--file", file)["tokens"])
        for key in ("tokens_per_second", "resident_bytes", "session_bytes"):
            self.assertGreater(by_pipe[key], 0, key)

    def test_stops_at_the_token(self):
        feed = self.json("feed", STORIES, "--file", NOVEL, "--max-tokens", 1234, "--every", 500, *EXACT)
        self.assertEqual(feed["tokens"], 1234)
        self.assertEqual([row["tokens"] for row in feed["results"]], [500, 1000])

    def test_text_output_has_a_line_each_so_many_tokens(self):
        output, _ = self.run_command("feed", STORIES, "--file", NOVEL, "--max-tokens", 1000, "--every", 400, *EXACT)
        self.assertEqual([line.split()[0] for line in output.splitlines()], ["tokens", "400", "800", "1,000"])

    def test_an_empty_text_is_its_beginning(self):
        self.assertEqual(self.json("feed", STORIES, "--file", "-")["tokens"], 1)

    def test_failures(self):
        self.fails("feed", STORIES, "--file", "-", "--repeat", "--max-tokens", 10, says="--repeat")
        self.fails("feed", STORIES, "--file", NOVEL, "--repeat", says="--max-tokens")
        self.run_command("feed", STORIES, "--file", "-", stdin=b"good \xff bad", code=1)


class UnknownText(Test):
    """Characters that the vocabulary has no token for: here byte 0x16, whose token was renamed."""

    def setUp(self):
        super().setUp()
        token = lambda text: struct.pack("<Q", len(text.encode())) + text.encode()
        data = (SOURCE / "samples/models/recall.gguf").read_bytes()
        self.assertEqual(data.count(token("\u0116")), 1)
        self.model = self.folder / "gaps.gguf"
        self.model.write_bytes(data.replace(token("\u0116"), token("\u03a9")))

    def run_with(self, stdin, *arguments):
        done = subprocess.run([COMMAND, *map(str, arguments), "--json"], input=stdin, capture_output=True, timeout=600)
        return done.returncode, json.loads(done.stdout or "null"), done.stderr.decode()

    def test_it_is_left_out_and_counted(self):
        for command in (("feed", self.model, "--file", "-"), ("score", self.model, "--file", "-"),
                        ("generate", self.model, "--file", "-", "--max-tokens", 3)):
            plain, skipped = (self.run_with(text, *command, *EXACT) for text in (b"a log of it", b"a \x16log\x16 of it"))
            with self.subTest(command[0]):
                self.assertEqual((plain[0], plain[1]["unknown_bytes"], plain[2]), (0, 0, ""))
                self.assertEqual((skipped[0], skipped[1]["unknown_bytes"]), (0, 2))
                self.assertIn("no token for, left out or replaced (--unknown-text): 2", skipped[2])
                for key in {"tokens", "scored", "nll", "text"} & plain[1].keys():
                    self.assertEqual(skipped[1][key], plain[1][key], key)

    def test_every_other_command_leaves_it_out_too(self):
        book, told = self.folder / "log.txt", "no token for, left out or replaced (--unknown-text): "
        book.write_bytes(b"The dog ran home. \x16 The cat sat. " * 100)
        for command in (("tokenize", self.model, "--text", "a \x16log"), ("logits", self.model, "--text", "a \x16log", "--out", self.folder / "l.npy"),
                        ("passkey", self.model, "--length", 256, "--trials", 1, "--filler", book),
                        ("recall", self.model, "--distance", 100, "--trials", 1, "--filler", book),
                        ("quantize", self.model, "--table", "--text", book, "--types", "file", "--generate", 1, "--read", 8),
                        ("train", self.model, "--text", book, "--steps", 1, "--segment", 16, "--out", self.folder / "out.gguf")):
            code, _, errors = self.run_with(b"", *command)
            self.assertEqual(code, 0, (command[0], errors))
            self.assertEqual(told in errors, command[0] != "quantize", (command[0], errors))
        plain, marked = (self.run_with(b"", "tokenize", self.model, "--text", text)[1] for text in ("a log", "a \x16log"))
        self.assertEqual(plain, marked)
        self.fails("tokenize", self.model, "--text", "a \x16log", "--unknown-text", "error", says="no token for U+0016")

    def test_or_an_error_that_says_where(self):
        for command in ("feed", "score", "generate"):
            code, _, errors = self.run_with(b"a \x16log", command, self.model, "--file", "-", "--unknown-text", "error", *EXACT)
            self.assertEqual(code, 1, command)
            self.assertIn("no token for U+0016, at byte 2 of the text", errors)
        # In a long text the message says where the piece begins, and where in that the character stands.
        _, _, errors = self.run_with(b"a log " * 2000 + b"\x16", "feed", self.model, "--file", "-", "--unknown-text", "error", *EXACT)
        places = [int(place) for place in re.findall("at byte ([0-9]+)", errors)]
        self.assertEqual((len(places), sum(places)), (2, 12000), errors)

    def test_or_replaced(self):
        _, feed, _ = self.run_with(b"a \x16log", "feed", self.model, "--file", "-", "--unknown-text", "replace", *EXACT)
        _, plain, _ = self.run_with("a \ufffdlog".encode(), "feed", self.model, "--file", "-", *EXACT)
        self.assertEqual((feed["unknown_bytes"], feed["tokens"]), (1, plain["tokens"]))


class LongFeed(Feed):
    """Only in the long run."""

    def test_memory_does_not_grow(self):
        self.feed_in_fixed_memory(1_000_000)


class Interrupt(Test):
    def start(self, *arguments, **pipes):
        return subprocess.Popen([COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **pipes)

    def interrupted(self, process):
        """Ends within seconds, with 1 and one word on stderr; returns stdout."""
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 1, errors)
        self.assertEqual(spoken(errors.decode()), "infini: cancelled\n")
        return output.decode()

    def test_while_it_reads(self):
        process = self.start("feed", STORIES, "--file", NOVEL, "--repeat", "--max-tokens", 10**9, "--json", *EXACT)
        works_for(process, 1)
        self.assertGreater(json.loads(self.interrupted(process))["tokens"], 0)

    def test_while_it_waits_for_input(self):
        process = self.start("feed", STORIES, "--file", "-", "--every", 100, *EXACT, stdin=subprocess.PIPE)
        process.stdin.write(NOVEL.read_bytes()[:200_000])
        process.stdin.flush()
        for _ in range(2):
            process.stdout.readline()
        takes(process)
        time.sleep(0.5)
        self.interrupted(process)

    def test_every_command_that_waits_for_a_pipe_ends(self):
        for arguments in (["score"], ["generate"], ["tokenize"], ["feed"]):
            # SIGHUP: a terminal that was closed; a word alone is held back until more comes
            for told, number in ((b"", signal.SIGINT), (b"Once upon", signal.SIGTERM), (b"Once upon", signal.SIGHUP)):
                process = self.start(*arguments, STORIES, "--file", "-", stdin=subprocess.PIPE)
                process.stdin.write(told)
                process.stdin.flush()
                hears(process, number)
                takes(process)
                time.sleep(0.4)
                process.send_signal(number)
                self.assertEqual(process.wait(timeout=20), 1, arguments)
                self.assertEqual(spoken(process.stderr.read().decode()), "infini: cancelled\n")
                for pipe in (process.stdin, process.stdout, process.stderr):
                    pipe.close()

    def test_text_is_read_as_it_comes_and_what_left_the_pipe_is_saved(self):
        text, saved = NOVEL.read_bytes()[:30_001], self.folder / "saved.snap"
        process = self.start("feed", STORIES, "--file", "-", "--every", 1000, "--save", saved, "--json", *EXACT, stdin=subprocess.PIPE)
        process.stdin.write(text)
        process.stdin.flush()
        takes(process)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 1)
        self.assertIn("the first 30,001 bytes of standard input", errors.decode())
        tokens = self.json("tokenize", STORIES, "--file", "-", stdin=text)["tokens"]
        self.assertEqual(self.json("snapshot", saved)["position"], tokens)
        self.assertEqual(json.loads(output)["tokens"], tokens)
        # What follows those bytes goes on, as if it had been there from the first.
        rest = NOVEL.read_bytes()[30_001:50_000]
        went_on = self.json("feed", STORIES, "--file", "-", "--load", saved, *EXACT, stdin=rest)["position"]
        self.assertAlmostEqual(went_on, self.json("tokenize", STORIES, "--file", "-", stdin=text + rest)["tokens"], delta=2)

    def test_a_character_that_came_in_part_waits_for_its_rest(self):
        saved = self.folder / "saved.snap"
        process = self.start("feed", STORIES, "--file", "-", "--save", saved, *EXACT, stdin=subprocess.PIPE)
        process.stdin.write("Une é".encode()[:-1])
        process.stdin.flush()
        takes(process)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        self.assertIn("the first 4 bytes of standard input", errors.decode())
        self.assertEqual(self.json("snapshot", saved)["position"], self.json("tokenize", STORIES, "--text", "Une ")["tokens"])

    def test_a_second_interrupt_leaves_no_litter(self):
        saved = self.folder / "saved.snap"
        for pause in (0, 0.01, 0.05):
            process = self.start("feed", STORIES, "--file", NOVEL, "--repeat", "--max-tokens", 10**9, "--save", saved, *EXACT)
            works_for(process, 0.8)
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
            self.assertLessEqual({path.name for path in self.folder.iterdir()}, {"saved.snap"})

    def test_while_it_writes(self):
        process = self.start("generate", STORIES, "--prompt", "", "--max-tokens", 10**9, "--ignore-end", *EXACT)
        self.assertEqual(process.stdout.read(4), b"Once")
        self.assertGreater(len(self.interrupted(process)), 0)


class Terminal(Test):
    def test_progress_shows_and_goes(self):
        shown = self.errors_on_a_terminal("feed", STORIES, "--file", NOVEL, "--max-tokens", 60_000, *EXACT)
        self.assertIn(b"reading", shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"))

    def test_progress_is_of_the_whole_file(self):
        for command in (["feed"], ["generate", "--max-tokens", 1]):
            shown = self.errors_on_a_terminal(*command, STORIES, "--file", NOVEL, *EXACT).decode()
            shares = [int(share) for share in re.findall(r"\] +(\d+) %", shown)]
            self.assertGreater(len(shares), 3, shown)
            self.assertEqual(shares, sorted(shares))
            self.assertIn(" left", shown)


if __name__ == "__main__":
    skips.main()
