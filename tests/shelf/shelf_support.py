"""What the tests of the shelf share: running it, and looking into its database."""
import contextlib
import hashlib
import os
import sqlite3
import subprocess

from support import NOVEL, STORIES, Test, spoken

SHELF = os.environ["SHELF"]


class ShelfTest(Test):
    def setUp(self):
        super().setUp()
        self.database = self.folder / "shelf.db"

    def start(self, *arguments, **pipes):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
        return subprocess.Popen([SHELF, "--shelf", self.database, *map(str, arguments)], **pipes)

    def finish(self, process, code=0):
        output, errors = process.communicate(timeout=300)
        self.assertEqual(process.returncode, code, errors.decode())
        self.assertEqual(bool(spoken(errors.decode())), code != 0, errors)
        return output.decode(), errors.decode()

    def shelf(self, *arguments, stdin=b"", code=0):
        done = subprocess.run([SHELF, "--shelf", self.database, *map(str, arguments)], input=stdin, capture_output=True, timeout=300)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stderr.decode()}")
        self.assertEqual(bool(spoken(done.stderr.decode())), code != 0, done.stderr)
        return done.stdout.decode()

    def shelf_fails(self, *arguments, says):
        done = subprocess.run([SHELF, "--shelf", self.database, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        self.assertEqual(done.returncode, 1, arguments)
        self.assertIn(says, done.stderr.decode())

    def read(self, name, *files, **how):
        return self.shelf("read", name, *files, "--model", STORIES, "--threads", 1, **how)

    def documents(self, count, size):
        """Files with pieces of a novel, each of its own."""
        text = NOVEL.read_bytes()
        files = [self.folder / f"document{i}.txt" for i in range(count)]
        for i, file in enumerate(files):
            file.write_bytes(text[i * size : (i + 1) * size])
        return files

    @contextlib.contextmanager
    def opened(self):
        connection = sqlite3.connect(self.database, timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def rows(self, sql, *values):
        with self.opened() as database:
            return database.execute(sql, values).fetchall()

    def state(self, name):
        """All that a memory is: tokens, a digest of its snapshot, and the names and hashes of its documents; None: not there."""
        with self.opened() as database:
            database.execute("BEGIN")
            row = database.execute("SELECT id, tokens, snapshot FROM memory JOIN state ON id = memory_id WHERE name = ?", [name]).fetchone()
            if row is None:
                return None
            documents = database.execute("SELECT name, hash, tokens FROM document WHERE memory_id = ? ORDER BY id", row[:1]).fetchall()
            return row[1], hashlib.sha256(row[2]).hexdigest(), tuple(documents)
