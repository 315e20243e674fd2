"""Every command of the shelf, databases of older versions, and processes that use one shelf at the same time."""
import json
import pathlib
import signal
import subprocess
import sqlite3

import skips
from shelf_support import SHELF, ShelfTest
from support import COMMAND, NOVEL, STORIES, unittest

VERSION_1 = (pathlib.Path(__file__).parent / "version1.sql").read_text(encoding="utf-8")


class Notebook(ShelfTest):
    def test_reads_and_shows(self):
        first, second = self.documents(2, 2000)
        self.assertRegex(self.read("novel", first, second), r"document0.txt: \d+ tokens\n.*document1.txt: \d+ tokens\n")
        (tokens,) = self.rows("SELECT tokens FROM memory")[0]
        sizes, counts = zip(*self.rows("SELECT size, tokens FROM document"))
        self.assertEqual(sizes, (2000, 2000))
        self.assertEqual(sum(counts), tokens)
        shown = self.shelf("show", "novel")
        for text in ("novel", "stories260K", f"tokens       {tokens}", str(STORIES), str(first), "2000 bytes"):
            self.assertIn(text, shown)
        self.assertIn(f"novel\t{tokens} tokens\t2 documents\tstories260K", self.shelf("list"))

    def test_the_hash_is_the_one_of_xxhsum(self):
        self.read("novel", self.documents(1, 1000)[0])
        empty = self.folder / "empty.txt"
        empty.write_bytes(b"")
        self.read("empty", empty)
        self.assertEqual(self.rows("SELECT hash FROM document WHERE size = 0"), [("99aa06d3014798d86001c324468d497f",)])

    def test_a_document_is_read_once(self):
        file = self.documents(1, 1000)[0]
        self.read("novel", file)
        before = self.state("novel")
        self.assertIn("was read already", self.shelf("read", "novel", file))
        self.assertEqual(self.state("novel"), before)
        self.shelf("read", "novel", file, "--again")
        self.assertEqual(len(self.state("novel")[2]), 2)

    def test_asking_does_not_change_a_memory_unless_told(self):
        self.read("novel", self.documents(1, 3000)[0])
        before = self.state("novel")
        answer = self.shelf("ask", "novel", "Once upon a time", "--max-tokens", 20)
        self.assertGreater(len(answer), 10)
        # A fork for every question: the second answer does not depend on the first.
        self.assertEqual(self.shelf("ask", "novel", "--max-tokens", 20, stdin=b"The cat\nOnce upon a time\n").splitlines()[-1], answer.splitlines()[-1])
        self.assertEqual(self.state("novel"), before)
        self.shelf("ask", "novel", "Once upon a time", "--max-tokens", 20, "--remember")
        after = self.state("novel")
        self.assertGreater(after[0], before[0] + 20)
        self.assertEqual(after[2], before[2])

    def test_renames_notes_removes(self):
        one, two = self.documents(2, 500)
        self.read("one", one)
        self.read("two", two)
        self.shelf_fails("rename", "one", "two", says="already")
        before = self.state("one")
        self.shelf("rename", "one", "first")
        self.assertEqual(self.state("first"), before)
        self.shelf("note", "first", "a beginning")
        self.assertIn("a beginning", self.shelf("show", "first"))
        self.shelf("remove", "first")
        self.shelf_fails("show", "first", says="there are: two")
        for table in ("memory", "state", "document"):
            self.assertEqual(self.rows(f"SELECT count(*) FROM {table}"), [(1,)])

    def test_a_memory_travels_as_a_snapshot(self):
        self.read("novel", self.documents(1, 3000)[0])
        self.shelf("note", "novel", "three pages")
        file = self.folder / "novel.snap"
        self.shelf("export", "novel", file)
        told = self.json("snapshot", file, "--verify")
        self.assertEqual((told["name"], told["note"], told["position"]), ("novel", "three pages", self.state("novel")[0]))
        self.shelf_fails("import", file, says="--name")
        self.shelf("import", file, "--name", "twin", "--model", STORIES)
        ask = ("Once upon a time", "--max-tokens", 30)
        self.assertEqual(self.shelf("ask", "twin", *ask), self.shelf("ask", "novel", *ask))
        self.assertIn("three pages", self.shelf("show", "twin"))
        # And one that the command made.
        self.run_command("feed", STORIES, "--file", NOVEL, "--max-tokens", 300, "--save", file, "--name", "fed")
        self.shelf("import", file)
        self.assertEqual(self.state("fed")[0], 300)
        self.shelf("export", "novel", file, "--memory-only")
        self.assertEqual(self.json("snapshot", file)["kind"], "memory")
        self.shelf("check")

    def test_errors_say_what_to_do(self):
        file = self.documents(1, 500)[0]
        self.shelf_fails("list", says="'shelf read'")
        self.shelf_fails("read", "novel", file, says="--model")
        self.shelf_fails("read", "novel", self.folder / "none.txt", "--model", STORIES, says="none.txt")
        self.shelf_fails("read", "novel", self.folder, "--model", STORIES, says="regular file")
        bad = self.folder / "bad.txt"
        bad.write_bytes(b"good \xff bad")
        self.read("novel", file)
        before = self.state("novel")
        self.shelf_fails("read", "novel", bad, says="as it was before")
        self.assertEqual(self.state("novel"), before)
        other = STORIES.parent.parent.parent / "tests/fixtures/infini/delta.gguf"
        self.shelf_fails("ask", "novel", "x", "--model", other, says="stories260K")
        self.shelf_fails("ask", "nobody", "x", says="there are: novel")
        self.shelf_fails("import", file, says="not a snapshot")
        self.shelf_fails("dance", says="subcommand")

    def test_check_finds_damage(self):
        for name, file in zip("abc", self.documents(3, 500)):
            self.read(name, file)
        with self.opened() as database, database:
            snapshot = bytearray(database.execute("SELECT snapshot FROM state WHERE memory_id = 1").fetchone()[0])
            snapshot[-1] ^= 1
            database.execute("UPDATE state SET snapshot = ? WHERE memory_id = 1", [bytes(snapshot)])
            database.execute("UPDATE memory SET tokens = 1 WHERE name = 'b'")
        done = subprocess.run([SHELF, "--shelf", self.database, "check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"'a': .*checksum(?s:.*)'b': its snapshot is not")
        self.assertNotIn("'c'", done.stderr)

    def test_help_teaches(self):
        for command in "read ask list show rename note remove export import check".split():
            self.assertIn(f"  {command} ", self.shelf("--help"))
            self.assertRegex(self.shelf(command, "--help"), r"Examples?:\n  shelf ")


class Versions(ShelfTest):
    def make_version_1(self):
        snapshot = self.folder / "old.snap"
        self.run_command("feed", STORIES, "--file", NOVEL, "--max-tokens", 500, "--save", snapshot)
        fingerprint = self.json("snapshot", snapshot)["fingerprint"]
        database = sqlite3.connect(self.database)
        database.executescript(VERSION_1)
        with database:
            database.execute("UPDATE memory SET fingerprint = ?, model_path = ?", [fingerprint, str(STORIES)])
            database.execute("INSERT INTO state VALUES (1, ?)", [snapshot.read_bytes()])
        database.close()

    def test_version_1_becomes_the_newest(self):
        self.make_version_1()
        before = self.rows("SELECT * FROM state"), self.rows("SELECT id, memory_id, name, size, tokens, read FROM document")
        self.assertIn("old\t500 tokens\t1 documents", self.shelf("list"))
        self.assertEqual(self.rows("PRAGMA user_version"), [(2,)])
        self.assertEqual(self.rows("SELECT note, revision FROM memory"), [("", 1)])
        self.assertEqual((self.rows("SELECT * FROM state"), self.rows("SELECT id, memory_id, name, size, tokens, read FROM document")), before)
        self.assertIn("not known", self.shelf("show", "old"))
        self.shelf("check")
        self.shelf("read", "old", self.documents(1, 500)[0])
        self.assertEqual(len(self.state("old")[2]), 2)
        self.shelf("ask", "old", "Once", "--max-tokens", 5)

    def test_an_old_and_a_new_database_have_one_schema(self):
        def columns():
            return {table: self.rows(f"SELECT name, type, \"notnull\", dflt_value FROM pragma_table_info('{table}')") for table in ("memory", "state", "document")}

        self.make_version_1()
        self.shelf("list")
        old = columns()
        for file in self.folder.glob("shelf.db*"):
            file.unlink()
        self.read("novel", self.documents(1, 500)[0])
        self.assertEqual(columns(), old)

    def test_many_processes_migrate_at_once(self):
        self.make_version_1()
        for output, _ in [self.finish(process) for process in [self.start("list") for _ in range(8)]]:
            self.assertIn("old\t500 tokens", output)
        self.shelf("check")

    def test_others_databases_are_left_alone(self):
        for sql, says in (("CREATE TABLE mine (x); PRAGMA user_version = 1", "another program"),
                          ("CREATE TABLE memory (x); PRAGMA application_id = 0x53484c46; PRAGMA user_version = 3", "newer version")):
            self.database.unlink(missing_ok=True)
            database = sqlite3.connect(self.database)
            database.executescript(sql)
            database.close()
            before = self.database.read_bytes()
            self.shelf_fails("list", says=says)
            self.shelf_fails("read", "novel", NOVEL, "--model", STORIES, says=says)
            self.assertEqual(self.database.read_bytes(), before)
        self.database.write_bytes(b"no database at all" * 100)
        self.shelf_fails("list", says="not a database")


class Processes(ShelfTest):
    def test_a_change_during_a_read_is_seen_and_kept(self):
        slow, quick = self.documents(2, 100_000)
        quick.write_bytes(quick.read_bytes()[:1000])
        first = self.folder / "first.txt"
        first.write_text("Once upon a time there was a shelf.")
        self.read("novel", first)
        reader = self.start("read", "novel", slow, "--threads", 1)
        shown = b""
        while not shown.endswith(b": "):  # its session stands where the memory is, and it feeds
            shown += reader.stdout.read(1)
        reader.send_signal(signal.SIGSTOP)
        self.read("novel", quick)
        reader.send_signal(signal.SIGCONT)
        output, _ = self.finish(reader)
        self.assertIn("was changed by another process meanwhile; reading", output)
        tokens, _, documents = self.state("novel")
        self.assertEqual([pathlib.Path(name).name for name, _, _ in documents], ["first.txt", quick.name, slow.name])
        self.assertEqual(sum(count for _, _, count in documents), tokens)
        self.shelf("check")

    def test_a_memory_that_is_made_twice_at_once_holds_both(self):
        files = self.documents(6, 3000)
        # Without a shelf at first: they also make the database at the same time.
        for process in [self.start("read", "novel", file, "--model", STORIES, "--threads", 1) for file in files]:
            self.finish(process)
        tokens, _, documents = self.state("novel")
        self.assertEqual({pathlib.Path(name) for name, _, _ in documents}, set(files))
        self.assertEqual(sum(count for _, _, count in documents), tokens)
        self.shelf("check")

    def test_readers_and_writers_do_not_disturb_each_other(self):
        files = self.documents(12, 1500)
        self.read("novel", files[0])
        writers = [self.start("read", "novel", *files[1:6], "--threads", 1), self.start("read", "other", *files[6:], "--model", STORIES, "--threads", 1)]
        while any(writer.poll() is None for writer in writers):
            for reader in [self.start("ask", "novel", "Once", "--max-tokens", 5), self.start("show", "novel")]:
                output, errors = reader.communicate(timeout=300)
                # An asker may be told that the memory has just changed; nothing else may go wrong.
                self.assertTrue(reader.returncode == 0 and output or b"ask again" in errors, errors)
        for writer in writers:
            self.finish(writer)
        self.assertEqual((len(self.state("novel")[2]), len(self.state("other")[2])), (6, 6))
        self.shelf("check")

    def test_what_was_asked_is_not_remembered_over_a_change(self):
        one, two = self.documents(2, 1000)
        self.read("novel", one)
        asker = self.start("ask", "novel", "--remember", "--max-tokens", 5, stdin=subprocess.PIPE)
        asker.stdin.write(b"Once upon\n")
        asker.stdin.flush()
        asker.stdout.readline()
        self.read("novel", two)
        after = self.state("novel")
        asker.stdin.close()
        asker.stdin = None
        _, errors = self.finish(asker, code=1)
        self.assertIn("not remembered", errors)
        self.assertEqual(self.state("novel"), after)


if __name__ == "__main__":
    skips.main()
