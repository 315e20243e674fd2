"""infini passkey: honest trials, whatever they share, and a trained model that finds its keys."""
import os
import re
import signal
import subprocess

import skips
from support import COMMAND, EXACT, NOVEL, SOURCE, STORIES, Test, unittest, works_for

DATA = os.environ.get("INFINI_TEST_DATA")
SHORT = ["--length", 600, "--trials", 3, *EXACT]
OPEN = ["--memory", "open", "--segment", 64]  # so that what is far away can change an answer


class Passkey(Test):
    def trials(self, *arguments):
        """Keys and answers of every cell."""
        results = self.json("passkey", STORIES, *arguments)["results"]
        return [(row["length"], row["depth"], row["keys"], row["answers"]) for row in results]

    def test_results(self):
        passkey = self.json("passkey", STORIES, "--length", "600,1K", "--depth", "0,0.5,1", "--trials", 2, *EXACT)
        cells = [(row["length"], row["depth"]) for row in passkey["results"]]
        self.assertEqual(cells, [(length, depth) for length in (600, 1024) for depth in (0, 0.5, 1)])
        for row in passkey["results"]:
            self.assertEqual(row["trials"], 2)
            self.assertGreater(row["tokens_per_second"], 0)
            found = [key == answer for key, answer in zip(row["keys"], row["answers"])]
            self.assertEqual(row["accuracy"], sum(found) / 2)
            for key in row["keys"]:
                self.assertRegex(key, r"^\d{5}$")
        self.assertEqual(passkey["trials"], 12)
        self.assertGreater(passkey["resident_bytes"], 0)

    def test_prompts_are_as_long_as_asked_for(self):
        tokens = self.json("passkey", STORIES, *SHORT, "--from-start")["tokens"]
        segment = self.json("info", STORIES)["segment"]
        self.assertGreaterEqual(tokens, 3 * 600)
        self.assertLess(tokens, 3 * (600 + segment))

    def test_a_seed_is_a_set_of_trials(self):
        first = self.trials(*SHORT, *OPEN)
        self.assertEqual(self.trials(*SHORT, *OPEN), first)
        self.assertNotEqual(self.trials(*SHORT, *OPEN, "--seed", 2), first)

    def test_a_cell_does_not_depend_on_others(self):
        alone = self.trials("--length", 900, "--depth", 0.5, "--trials", 2, *OPEN, *EXACT)
        among = self.trials("--length", "600,900", "--depth", "0.2,0.5", "--trials", 2, *OPEN, *EXACT)
        self.assertIn(alone[0], among)

    def test_sharing_changes_no_answer(self):
        # Pieces of 4 chunks are shared, so that small chunks make trials leave the trunk at many places.
        for flags in (["--names", 3], ["--filler", NOVEL], ["--own-filler", "--filler", NOVEL], ["--instruction"]):
            arguments = ["--length", "900,1500", "--depth", "0.3,0.9", "--trials", 3, "--chunk", 32, *OPEN, *EXACT, *flags]
            alone = self.json("passkey", STORIES, *arguments, "--from-start")
            shared = self.json("passkey", STORIES, *arguments)
            for a, b in zip(alone["results"], shared["results"], strict=True):
                self.assertEqual((a["keys"], a["answers"]), (b["keys"], b["answers"]), flags)
            if "--own-filler" not in flags and "--names" not in flags:
                self.assertLess(shared["tokens"], 0.7 * alone["tokens"])

    def test_jobs_change_no_answer(self):
        arguments = [*SHORT, *OPEN, "--depth", "0.2,0.8"]
        self.assertEqual(self.trials(*arguments, "--jobs", 3), self.trials(*arguments))

    def test_text_output(self):
        output, _ = self.run_command("passkey", STORIES, *SHORT, "--depth", "0,1")
        lines = output.splitlines()
        self.assertEqual([line.split()[:2] for line in lines[1:3]], [["600", "0"], ["600", "1"]])
        self.assertRegex(lines[3], r"^found [\d.]+% of 6 keys; read [\d,]+ tokens, [\d,]+ a second; .* resident$")
        output, _ = self.run_command("passkey", STORIES, "--table", "--length", "512,1K", "--trials", 1, *EXACT)
        self.assertEqual([len(line.split()) for line in output.splitlines()[:4]], [4, 4, 4, 4])
        self.assertRegex(output, r"^found, % +512 +1K\n")

    def test_an_interrupt_ends_it_with_what_was_counted(self):
        process = subprocess.Popen([COMMAND, "passkey", str(STORIES), "--length", "300,100M", "--trials", "2", "--jobs", "2"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        works_for(process, 3)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (1, b"infini: cancelled\n"))
        self.assertRegex(output.decode(), r"(?m)^ +300 +0\.5 +\d/2 ")

    def test_failures(self):
        self.fails("passkey", STORIES, "--length", 20, says="--length 20 is too short")
        self.fails("passkey", STORIES, "--length", "far", says="far")
        self.fails("passkey", STORIES, "--depth", 2, says="2")
        self.fails("passkey", STORIES, "--names", 1000, says="1000")
        self.fails("passkey", STORIES, "--trials", 0, says="0")
        self.fails("passkey", STORIES, "--filler", self.folder / "none.txt", says="none.txt")
        empty = self.folder / "empty.txt"
        empty.touch()
        self.fails("passkey", STORIES, "--filler", empty, says="empty")


class Finds(Test):
    def assert_finds(self, model, lengths, depths, *options):
        passkey = self.json("passkey", model, "--length", lengths, "--depth", depths, "--trials", 2, *options)
        for row in passkey["results"]:
            self.assertEqual(row["answers"], row["keys"])


class Shipped(Finds):
    def test_finds_the_key(self):
        """Eight times as far back as the longest sequence of its training."""
        self.assert_finds(SOURCE / "samples/models/recall.gguf", "16K", "0,0.95", *EXACT)

    def test_keeps_thirty_two_names_apart(self):
        self.assert_finds(SOURCE / "samples/models/recall.gguf", "8K", "0,0.5,0.95", "--names", 32, *EXACT)


@unittest.skipUnless(DATA, "set INFINI_TEST_DATA to the folder of test data, for models/prototype")
class Trained(Finds):
    """A model that was trained on sequences of 1,024 tokens."""

    def test_finds_the_key(self):
        self.assert_finds(f"{DATA}/models/prototype/prototype-linear.gguf", "4096,32K", "0.02,0.95", "--threads", 1)


if __name__ == "__main__":
    skips.main()
