"""Sessions that are kept: --load and --save, interrupts, and the command that inspects snapshots."""
import json
import signal
import subprocess
import time

import skips
from support import COMMAND, EXACT, GOLDEN, NOVEL, STORIES, Test, unittest, wait_until, with_chat_template, works_for

CHATML = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"


class KeepingTest(Test):
    def setUp(self):
        super().setUp()
        self.saved, self.other = self.folder / "saved.snap", self.folder / "other.snap"

    def feed(self, *flags):
        return self.json("feed", STORIES, "--file", NOVEL, *flags, *EXACT)

    def identical(self, a, b):
        return self.json("snapshot", a, "--diff", b)["identical"]

    def interrupt(self, *arguments, after):
        """Starts the command, interrupts it after so many seconds of work, and returns what it said."""
        process = subprocess.Popen([COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        works_for(process, after)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, errors)
        return output.decode(), errors.decode()


class Keeping(KeepingTest):
    def test_a_stream_goes_on_where_it_stopped(self):
        first = self.feed("--max-tokens", 1024, "--save", self.saved)
        self.assertEqual((first["position"], first["file"]), (1024, str(self.saved)))
        self.assertEqual(first["bytes"], self.saved.stat().st_size)
        second = self.feed("--max-tokens", 512, "--skip", 1024, "--load", self.saved, "--save", self.saved)
        self.assertEqual((second["tokens"], second["position"]), (512, 1536))
        self.feed("--max-tokens", 1536, "--save", self.other)
        self.assertTrue(self.identical(self.saved, self.other))

    def test_generation_goes_on_bit_for_bit(self):
        flags = ["--temperature", 1, "--seed", 3, *EXACT]
        whole = self.json("generate", STORIES, "--prompt", "Once", "--max-tokens", 60, *flags)["text"]
        first = self.json("generate", STORIES, "--prompt", "Once", "--max-tokens", 25, "--save", self.saved, *flags)
        rest = self.json("generate", STORIES, "--load", self.saved, "--max-tokens", 35, "--temperature", 1, *EXACT)
        self.assertEqual(first["text"] + rest["text"], whole)
        self.assertEqual(rest["position"], first["position"] + 35)
        self.assertEqual(rest["prompt_tokens"], 0)

    def test_a_seed_beside_a_snapshot_counts(self):
        flags = ["--temperature", 1, "--max-tokens", 30, *EXACT]
        self.json("generate", STORIES, "--prompt", "Once", "--save", self.saved, *flags)
        texts = [self.json("generate", STORIES, "--load", self.saved, "--seed", seed, *flags)["text"] for seed in (1, 2, 2)]
        self.assertNotEqual(texts[0], texts[1])
        self.assertEqual(texts[1], texts[2])

    def test_a_prompt_begins_a_new_run(self):
        self.json("generate", STORIES, "--prompt", "Once", "--max-tokens", 25, "--save", self.saved, *EXACT)
        more = self.json("generate", STORIES, "--load", self.saved, "--prompt", " One day", "--max-tokens", 10, *EXACT)
        self.assertEqual(more["tokens"], 10)
        self.assertGreater(more["prompt_tokens"], 0)

    def test_the_name_and_the_note_stay_unless_others_are_given(self):
        self.feed("--max-tokens", 10, "--save", self.saved, "--name", "diary", "--note", "until May")
        self.feed("--max-tokens", 10, "--load", self.saved, "--save", self.other, "--note", "until June")
        told = self.json("snapshot", self.other)
        self.assertEqual((told["name"], told["note"]), ("diary", "until June"))

    def test_a_memory_alone_and_compression(self):
        self.feed("--max-tokens", 600, "--save", self.saved, "--memory", "open")
        self.feed("--max-tokens", 600, "--save", self.other, "--memory", "open", "--memory-only")
        self.assertEqual(self.json("snapshot", self.other)["kind"], "memory")
        self.assertLess(self.other.stat().st_size, self.saved.stat().st_size / 4)
        self.fails("generate", STORIES, "--load", self.other, "--memory", "open", *EXACT, says="no logits")
        self.json("generate", STORIES, "--load", self.other, "--prompt", "Once", "--max-tokens", 5, "--memory", "open", *EXACT)
        # The same session, compressed: another file, equal contents.
        self.feed("--max-tokens", 600, "--save", self.other, "--memory", "open", "--compress", 3)
        self.assertLess(self.other.stat().st_size, self.saved.stat().st_size)
        self.assertTrue(self.identical(self.saved, self.other))

    def test_a_conversation_goes_on(self):
        model = self.folder / "chat.gguf"
        with_chat_template(STORIES, model, CHATML)
        flags = ["--json", "--max-tokens", 8, *EXACT]

        def answers(*more, stdin):
            return [json.loads(line)["text"] for line in self.run_command("chat", model, *flags, *more, stdin=stdin)[0].splitlines()]

        whole = answers("--system", "Tell stories.", stdin=b"Who?\nAnd then?\n")
        first = answers("--system", "Tell stories.", "--save", self.saved, stdin=b"Who?\n")
        self.assertEqual(first + answers("--load", self.saved, "--save", self.saved, stdin=b"And then?\n"), whole)
        self.fails("chat", model, "--load", self.saved, "--system", "x", says="--system")

    def test_failures_lose_nothing(self):
        self.feed("--max-tokens", 300, "--save", self.saved)
        before = self.saved.read_bytes()
        damaged = self.folder / "damaged.snap"
        damaged.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        text = self.folder / "bad.txt"
        text.write_bytes(b"good \xff bad")
        feed = ("feed", STORIES, "--file")
        self.run_command(*feed, NOVEL, "--load", damaged, "--save", self.saved, code=1)
        self.run_command(*feed, text, "--load", self.saved, "--save", self.saved, code=1)
        self.fails(*feed, NOVEL, "--load", self.saved, "--save", self.folder / "no/such/folder", says="--save")
        self.fails(*feed, NOVEL, "--save", self.folder, says="is a folder")
        self.fails(*feed, NOVEL, "--load", self.folder / "none.snap", "--save", self.saved, says="none.snap")
        self.fails(*feed, NOVEL, "--load", self.saved, "--segment", 100, says="option 'carry'")
        self.fails(*feed, NOVEL, "--name", "x", says="--save")
        self.assertEqual(self.saved.read_bytes(), before)

    def test_a_path_that_is_empty_is_an_error(self):
        for flag in ("--load", "--save"):
            self.fails("feed", STORIES, "--file", NOVEL, flag, "", says=f"{flag}: names no file")
        self.fails("feed", STORIES, "--file", "", says="--file: names no file")
        self.fails("info", "", says="MODEL: names no file")

    def test_saves_on_the_way(self):
        for every in ("1000", "0.01s"):
            process = subprocess.Popen([COMMAND, "feed", STORIES, "--file", NOVEL, "--repeat", "--max-tokens", str(10**9), "--save", self.saved,
                                        "--save-every", every, *EXACT], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            wait_until(self.saved.exists)
            time.sleep(0.5)
            process.kill()
            process.communicate(timeout=60)
            self.assertGreater(self.json("snapshot", self.saved, "--verify")["position"], 0)
            self.saved.unlink()
        self.json("generate", STORIES, "--prompt", "Once", "--max-tokens", 50, "--save", self.saved, "--save-every", 7, *EXACT)
        self.json("generate", STORIES, "--prompt", "Once", "--max-tokens", 50, "--save", self.other, *EXACT)
        self.assertTrue(self.identical(self.saved, self.other))  # as if it had not been stopped to save
        self.fails("feed", STORIES, "--file", NOVEL, "--save", self.saved, "--save-every", "often", says="--save-every")

    def test_a_file_that_may_not_grow_is_an_error(self):
        import resource
        done = subprocess.run([COMMAND, "feed", STORIES, "--file", NOVEL, "--max-tokens", "2000", "--save", self.saved, *EXACT],
                              capture_output=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)))
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"File too large", done.stderr)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_an_interrupt_saves_what_was_read(self):
        output, errors = self.interrupt("feed", STORIES, "--file", NOVEL, "--json", "--save", self.saved, *EXACT, after=1)
        tokens = json.loads(output)["tokens"]
        self.assertGreater(tokens, 0)
        self.assertEqual(self.json("snapshot", self.saved, "--verify")["position"], tokens)
        self.assertIn(f"is saved in {self.saved}; to go on with the same text, load it with --skip {tokens}", errors)
        # What follows the advice is where it would be without the interrupt.
        self.feed("--load", self.saved, "--skip", tokens, "--max-tokens", 4000, "--save", self.saved)
        self.feed("--max-tokens", tokens + 4000, "--save", self.other)
        self.assertTrue(self.identical(self.saved, self.other))

    def test_an_interrupt_saves_what_was_written(self):
        flags = ["--ignore-end", "--temperature", 1, "--seed", 5, *EXACT]
        output, errors = self.interrupt("generate", STORIES, "--prompt", "Once", "--max-tokens", 10**9, "--json", "--save", self.saved, *flags, after=0.7)
        self.assertIn("is saved in", errors)
        first = json.loads(output)
        self.assertEqual(first["stop_reason"], "cancelled")
        more = self.json("generate", STORIES, "--load", self.saved, "--max-tokens", first["tokens"] + 30, "--ignore-end", *EXACT)
        self.assertEqual(more["tokens"], 30)  # the run goes on, and counts on
        whole = self.json("generate", STORIES, "--prompt", "Once", "--max-tokens", first["tokens"] + 30, *flags)
        self.assertEqual(first["text"] + more["text"], whole["text"])


class Snapshot(KeepingTest):
    def test_tells_what_is_in_one(self):
        self.feed("--max-tokens", 600, "--save", self.saved, "--name", "diary", "--note", "until May", "--memory", "open")
        told = self.json("snapshot", self.saved)
        self.assertEqual((told["name"], told["note"], told["model"], told["kind"]), ("diary", "until May", "stories260K", "session"))
        self.assertEqual((told["position"], told["segment_position"], told["memory_tokens"]), (600, 600 % 254, 600 // 254 * 254))
        self.assertEqual((told["bytes"], told["format_version"]), (self.saved.stat().st_size, 2))
        self.assertRegex(told["fingerprint"], "^[0-9a-f]{32}$")
        written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.saved.stat().st_mtime))
        self.assertEqual(told["time"], written)
        sections = {section["section"]: section for section in told["sections"]}
        # layers, KV heads, M and z and what rounding left of each, f32
        self.assertEqual(sections["memory"]["bytes"], 5 * 4 * 2 * (8 * 8 + 8) * 4)
        output, _ = self.run_command("snapshot", self.saved, "--verify")
        for text in ("diary", "until May", "600", "memory", "Every checksum matches"):
            self.assertIn(text, output)

    def test_verify_finds_every_kind_of_damage(self):
        self.feed("--max-tokens", 300, "--save", self.saved, "--memory", "open")
        whole = self.saved.read_bytes()
        self.assertTrue(self.json("snapshot", self.saved, "--verify")["verified"])
        for section in self.json("snapshot", self.saved)["sections"]:
            self.assertIn(section["encoding"], ("plain", "zstd"))
        for at, says in ((0, "not a snapshot"), (70, "header"), (len(whole) - 1, "section"), (len(whole) // 2, "section")):
            self.other.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            self.fails("snapshot", self.other, "--verify", says=says)
            self.fails("snapshot", self.saved, "--diff", self.other, says=says)
        self.other.write_bytes(whole[:-1])
        self.fails("snapshot", self.other, says="ends after")
        self.fails("snapshot", self.folder / "none", says="none")
        self.fails("snapshot", STORIES, says="not a snapshot")

    def test_diff_says_what_differs(self):
        self.feed("--max-tokens", 300, "--save", self.saved)
        self.feed("--max-tokens", 301, "--save", self.other, "--name", "longer")
        self.assertEqual(self.run_command("snapshot", self.saved, "--diff", self.saved)[0], "The snapshots are identical.\n")
        diff = self.json("snapshot", self.saved, "--diff", self.other)
        differences = {entry["what"]: (entry["a"], entry["b"]) for entry in diff["differences"]}
        self.assertFalse(diff["identical"])
        self.assertEqual(differences["position"], (300, 301))
        self.assertEqual(differences["name"], ("", "longer"))
        self.assertIn("section hidden", differences)
        self.assertNotIn("fingerprint", differences)
        output, _ = self.run_command("snapshot", self.saved, "--diff", self.other)
        self.assertRegex(output, r"(?m)^position +300 \| 301$")
        self.json("generate", STORIES, "--load", self.saved, "--temperature", 0.5, "--max-tokens", 1, "--save", self.other, *EXACT)
        self.assertIn("option temperature", self.run_command("snapshot", self.saved, "--diff", self.other)[0])


class Bench(KeepingTest):
    depths = "1000,20000"

    def test_saving_beside_a_plain_write(self):
        bench = self.json("bench", STORIES, "--snapshot", "--depth", self.depths, "--runs", 3, "--folder", self.folder, *EXACT)
        young, old = bench["results"]
        self.assertEqual(young["bytes"], old["bytes"])
        self.assertEqual([row["depth"] % 254 for row in bench["results"]], [0, 0])
        self.assertGreaterEqual(old["depth"], int(self.depths.split(",")[1]))
        for name in ("save", "restore"):
            self.assertGreater(bench[name + "_ratio"], 0)
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertIn("plain read", self.run_command("bench", STORIES, "--snapshot", "--depth", 1, "--runs", 1, "--folder", self.folder, *EXACT)[0])


class LongBench(Bench):
    """Only in the long run."""

    depths = "10000,1000000"


if __name__ == "__main__":
    skips.main()
