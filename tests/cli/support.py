"""What the tests of the command share: running it, reading its files, comparing with golden values."""
import array
import fcntl
import json
import math
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import tempfile
import termios
import time
import unittest

COMMAND = os.environ["INFINI_COMMAND"]
SOURCE = pathlib.Path(os.environ["INFINI_SOURCE_DIR"])
FIXTURES = SOURCE / "tests/fixtures"
STORIES = SOURCE / "samples/models/stories260K.gguf"
NOVEL = SOURCE / "samples/texts/wuthering_heights.txt"
GOLDEN = json.loads((FIXTURES / "stories260K.golden.json").read_text(encoding="utf-8"))

# Small models gain nothing from threads, and a test should not depend on who else is busy.
EXACT = ["--compute", "f32", "--threads", "1"]


# Lines on stderr that are no errors: that a model has no memory, and what the library warns of.
NOTICE = re.compile(r"^(.* has no trained memory: it sees only its window of \d+ tokens\..*|infini: training computes in f32.*)\n", re.M)


def spoken(errors):
    return NOTICE.sub("", errors)


def wait_until(condition, seconds=120):
    """However busy the machine is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.005)


def works_for(process, seconds):
    """Waits until a process has had the processor for so long, or has ended."""
    ticks = seconds * os.sysconf("SC_CLK_TCK")
    stat = pathlib.Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: process.poll() is not None or sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])) >= ticks)


def hears(process, number):
    """Waits until a process has a way of its own to end by a signal, or has ended."""
    status = pathlib.Path(f"/proc/{process.pid}/status")
    wait_until(lambda: process.poll() is not None or int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) >> number - 1 & 1)


def takes(process):
    """Waits until a process has taken what was written to its standard input."""
    wait_until(lambda: process.poll() is not None or not any(fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))))


class Test(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_command(self, *arguments, stdin=b"", code=0):
        """Runs the command and checks its manners: the exit code, and that stderr speaks when it fails, and then only."""
        done = subprocess.run([COMMAND, *map(str, arguments)], input=stdin, capture_output=True, timeout=600)
        errors = spoken(done.stderr.decode())
        self.assertEqual(done.returncode, code, f"{arguments}: {errors}")
        if code == 0:
            self.assertEqual(errors, "", f"{arguments} wrote to stderr")
        else:
            self.assertTrue(errors.strip(), f"{arguments} failed without a word")
        return done.stdout.decode(), errors

    def json(self, *arguments, stdin=b""):
        """The JSON that the command prints with --json: one line, and nothing else."""
        output, _ = self.run_command(*arguments, "--json", stdin=stdin)
        self.assertEqual(output.count("\n"), 1)
        self.assertTrue(output.endswith("\n"))
        return json.loads(output)

    def fails(self, *arguments, says="", stdin=b""):
        """A failure prints nothing but a message."""
        output, errors = self.run_command(*arguments, stdin=stdin, code=1)
        self.assertEqual(output, "")
        self.assertIn(says, errors)
        return errors

    def errors_on_a_terminal(self, *arguments):
        """What a terminal is shown on stderr."""
        master, terminal = pty.openpty()
        process = subprocess.Popen([COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=terminal)
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(master, 4096):
                shown += chunk
        except OSError:  # how a terminal ends
            pass
        process.communicate(timeout=600)
        os.close(master)
        self.assertEqual(process.returncode, 0)
        return shown


class Terminal:
    """The command on a terminal of its own: what it is told, and what it shows."""

    def __init__(self, *arguments, environment=None):
        self.master, terminal = pty.openpty()
        self.process = subprocess.Popen([COMMAND, *map(str, arguments)], stdin=terminal, stdout=terminal, stderr=terminal,
                                        env={**os.environ, "TERM": "vt100", **(environment or {})}, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(terminal)
        self.shown = ""

    def type(self, text):
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def wait_for(self, text, seconds=60):
        """Reads until `text` is shown; returns what was shown before it since the last time."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} was not shown, but {self.shown!r}")
            try:
                data = os.read(self.master, 4096)
            except OSError:  # how a terminal ends
                data = b""
            if not data:
                raise AssertionError(f"ended without {text!r}: {self.shown!r}")
            self.shown += data.decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before

    def end(self, seconds=60):
        """Waits for the end; returns the exit code and what was shown since the last time."""
        end = time.monotonic() + seconds
        while select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
            try:
                data = os.read(self.master, 4096)
            except OSError:
                data = b""
            if not data:
                break
            self.shown += data.decode(errors="replace")
        code = self.process.wait(timeout=seconds)
        os.close(self.master)
        return code, self.shown


def numbers(path, kind):
    values = array.array(kind)
    values.frombytes(pathlib.Path(path).read_bytes())
    return values


def read_npy(path):
    """Shape and values of a float32 matrix, with every part of the format checked."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    (length,) = struct.unpack("<H", data[8:10])
    assert (10 + length) % 64 == 0 and data[9 + length : 10 + length] == b"\n"
    header = eval(data[10 : 10 + length].decode("ascii"), {})  # a dictionary literal, by the format's definition
    assert header["descr"] == "<f4" and header["fortran_order"] is False and len(header) == 3, header
    values = array.array("f")
    values.frombytes(data[10 + length :])
    assert len(values) == math.prod(header["shape"]), header
    return header["shape"], values


def relative_difference(actual, expected):
    """The largest difference over the standard deviation of the expected values."""
    assert len(actual) == len(expected) and all(map(math.isfinite, actual))
    mean = math.fsum(expected) / len(expected)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in expected) / len(expected))
    return max(abs(a - b) for a, b in zip(actual, expected)) / deviation


def with_chat_template(source, target, template):
    """Copies a GGUF file and gives it a chat template."""
    data = source.read_bytes()
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def number(at, form):
        return struct.unpack_from("<" + form, data, at)[0]

    def skip_text(at):
        return at + 8 + number(at, "Q")

    def skip_value(at, kind):
        if kind == 8:
            return skip_text(at)
        if kind != 9:
            return at + sizes[kind]
        element, count, at = number(at, "I"), number(at + 4, "Q"), at + 12
        for _ in range(count):
            at = skip_value(at, element)
        return at

    tensors, keys, at = number(8, "Q"), number(16, "Q"), 24
    for _ in range(keys):
        at = skip_text(at)
        at = skip_value(at + 4, number(at, "I"))
    keys_end = at
    for _ in range(tensors):
        at = skip_text(at)
        at += 4 + 8 * number(at, "I") + 4 + 8

    def aligned(position):
        return (position + 31) // 32 * 32

    name, text = b"tokenizer.chat_template", template.encode()
    added = struct.pack("<Q", len(name)) + name + struct.pack("<IQ", 8, len(text)) + text
    head = data[:16] + struct.pack("<Q", keys + 1) + data[24:keys_end] + added + data[keys_end:at]
    target.write_bytes(head.ljust(aligned(len(head)), b"\0") + data[aligned(at) :])
