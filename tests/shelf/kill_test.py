"""A shelf whose processes are killed at random: every memory is found as before or as after, never damaged.

usage: kill_test.py [KILLS [SEED]]
"""
import random
import signal
import sys
import time

import skips
from shelf_support import ShelfTest
from support import STORIES, unittest

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 50
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
DOCUMENTS = 20


class Kill(ShelfTest):
    def test_every_memory_is_as_before_or_as_after(self):
        print(f"seed {SEED}", flush=True)
        dice = random.Random(SEED)
        files = self.documents(DOCUMENTS, 400)
        # What the memory is after each document, when nobody is killed.
        after = [None]
        for file in files:
            self.read("memory", file)
            after.append(self.state("memory"))
        self.assertEqual(len(set(after)), DOCUMENTS + 1)
        begin = time.monotonic()
        self.read("copy", *files)
        duration = time.monotonic() - begin
        self.assertEqual(self.state("copy"), after[-1])  # another memory, which none of the kills may touch
        self.shelf("remove", "memory")

        done, counts = 0, {"as before": 0, "further": 0, "removed": 0}
        for kill in range(KILLS):
            removes = done == DOCUMENTS
            arguments = ["remove", "memory"] if removes else ["read", "memory", *files, "--model", STORIES, "--threads", 1]
            process = self.start(*arguments)
            if not removes:
                process.stdout.read(1)  # the model is open
            time.sleep(dice.uniform(0, 0.05 if removes else duration / 2))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            with self.opened() as database:
                self.assertEqual(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)], f"kill {kill}")
                self.assertEqual(database.execute("PRAGMA foreign_key_check").fetchall(), [], f"kill {kill}")
            state = self.state("memory")
            self.assertIn(state, after, f"kill {kill}")
            now = after.index(state)
            self.assertTrue(now == 0 or now == done if removes else now >= done, f"kill {kill}: {done} documents became {now}")
            counts["as before" if now == done else "removed" if removes else "further"] += 1
            if removes and now:
                self.shelf("remove", "memory")
            done = 0 if removes else now
            self.assertEqual(self.state("copy"), after[-1])
            if kill % 10 == 0:
                self.shelf("check")
        self.shelf("check")
        print(f"{KILLS} kills: {counts}")
        self.assertGreater(counts["further"], KILLS // 5)  # else the test does not test


if __name__ == "__main__":
    skips.main(sys.argv[:1])
