"""Streams: any length through a pipe, in fixed memory, and an interrupt at any time."""
import json
import signal
import subprocess
import sys
import time

from support import COMMAND, EXACT, NOVEL, STORIES, Test, unittest

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
        self.assertEqual(errors, b"infini: cancelled\n")
        return output.decode()

    def test_while_it_reads(self):
        process = self.start("feed", STORIES, "--file", NOVEL, "--repeat", "--max-tokens", 10**9, "--json", *EXACT)
        time.sleep(1)
        self.assertGreater(json.loads(self.interrupted(process))["tokens"], 0)

    def test_while_it_waits_for_input(self):
        process = self.start("feed", STORIES, "--file", "-", "--every", 100, *EXACT, stdin=subprocess.PIPE)
        process.stdin.write(NOVEL.read_bytes()[:200_000])
        process.stdin.flush()
        for _ in range(2):
            process.stdout.readline()
        time.sleep(0.5)
        self.interrupted(process)

    def test_while_it_writes(self):
        process = self.start("generate", STORIES, "--prompt", "", "--max-tokens", 10**9, "--ignore-end", *EXACT)
        self.assertEqual(process.stdout.read(4), b"Once")
        self.assertGreater(len(self.interrupted(process)), 0)


class Terminal(Test):
    def test_progress_shows_and_goes(self):
        shown = self.errors_on_a_terminal("feed", STORIES, "--file", NOVEL, "--max-tokens", 60_000, *EXACT)
        self.assertIn(b"reading", shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
