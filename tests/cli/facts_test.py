"""infini recall: facts that are told in running text and asked for later."""
import os
import random
import re
import subprocess
import unittest

import skips
import support
from support import COMMAND, NOVEL, SOURCE, STORIES


class Facts(support.Test):
    def recall(self, *arguments):
        return self.json("recall", STORIES, "--trials", "1", "--segment", "64", "--carry", "64", "--threads", "1", *arguments)

    def test_each_fact_is_told_once_and_asked_for_at_each_distance(self):
        answer = self.recall("--distance", "60,200", "--answers")
        column, = answer["columns"]
        asked = column["answers"]
        self.assertEqual(sum(row["asked"] for row in column["results"]), len(asked))
        self.assertEqual(sum(row["right"] for row in column["results"]), sum(one["right"] for one in asked))
        self.assertEqual({one["distance"] for one in asked}, {60, 200})
        self.assertEqual(len({one["family"] for one in asked}) * 2, len(asked))
        for one in asked:
            self.assertTrue(one["question"].endswith(("?", ".")))

    def test_the_same_seed_tells_the_same_and_another_one_other_facts(self):
        def told(*more):
            return [one["told"] for one in self.recall("--distance", "50", "--answers", *more)["columns"][0]["answers"]]
        self.assertEqual(told(), told())
        self.assertNotEqual(told(), told("--seed", "2"))

    def test_what_is_trained_is_not_what_is_tested(self):
        def families(split):
            return {row["family"] for row in self.recall("--distance", "50", "--split", split)["columns"][0]["results"]}
        trained, held_out = families("train"), families("held-out")
        self.assertTrue(trained and held_out)
        self.assertFalse(trained & held_out)

    def test_the_forms_of_other_benchmarks_are_asked_if_they_are_named(self):
        def families(*more):
            return {row["family"] for row in self.recall("--distance", "50", *more)["columns"][0]["results"]}
        self.assertEqual(families("--kind", "ruler"), {"niah number", "niah uuid"})
        self.assertEqual(families("--kind", "babilong"), {"one supporting fact", "two supporting facts"})
        self.assertFalse(families() & {"niah number", "niah uuid", "one supporting fact", "two supporting facts"})
        self.fails("recall", STORIES, "--distance", "50", "--kind", "ruler", "--split", "train", says="--kind")

    def test_full_attention_stands_beside_up_to_the_context(self):
        answer = self.recall("--distance", "50,100000", "--kind", "digits", "--full")
        self.assertEqual([column["name"] for column in answer["columns"]], ["model", "full attention"])
        self.assertEqual({row["distance"] for row in answer["columns"][1]["results"]}, set())  # its context is too short
        self.assertEqual({row["distance"] for row in answer["columns"][0]["results"]}, {50, 100000})

    def test_how_much_of_what_was_told_is_still_in_view_is_counted(self):
        def views(*more):
            rows = self.recall("--distance", "40,250", "--memory", "open", *more)["columns"][0]["results"]
            self.assertTrue(all(("in_view" in row) == (row["kind"] != "never") for row in rows))
            return [[row["in_view"] for row in rows if row["distance"] == d and "in_view" in row] for d in (40, 250)]
        near, far = views()
        self.assertGreater(min(near), 0)
        self.assertEqual(set(far), {0})  # windows of 128
        near, far = views("--keep", "370")  # room for all
        self.assertEqual((set(near), set(far)), ({1}, {1}))

    def test_a_table_is_shown_and_mistakes_are_said(self):
        shown, _ = self.run_command("recall", STORIES, "--distance", "50", "--trials", "1", "--kind", "places")
        self.assertIn("places", shown)
        self.assertIn("state", shown)
        self.fails("recall", STORIES, "--form", "chat", "--distance", "50", says="chat template")
        self.fails("recall", STORIES, "--kind", "weather", says="--kind")

    KEEPING = ["--segment", "64", "--carry", "64", "--keep", "48", "--memory", "open", "--threads", "1"]

    def test_a_model_learns_what_is_worth_keeping(self):
        out = self.folder / "keeps.gguf"
        made = self.json("keep", STORIES, *self.KEEPING, "--layer", "2", "--tokens", "6000", "--text", NOVEL, "--bias",
                         "3:1.5", "--out", out)
        self.assertEqual(made["out"], str(out))
        plain, learned = (self.json("recall", model, "--trials", "1", "--distance", "300", "--kind", "digits",
                                    "--filler", NOVEL, *self.KEEPING)["columns"][0] for model in (STORIES, out))
        self.assertEqual(plain["tokens"], learned["tokens"])
        self.assertIn(b"infini.keep.probe", out.read_bytes()[:2 << 20])
        self.fails("keep", STORIES, "--text", NOVEL, "--out", out, says="keep")
        self.fails("keep", STORIES, *self.KEEPING, "--text", NOVEL, "--out", out, "--bias", "3", says="--bias")

    def test_one_command_teaches_and_shows_what_it_is_worth_and_makes_nothing_twice(self):
        made = self.folder / "made"
        recipe = [SOURCE / "samples/train/keep.py", STORIES, made, "--text", NOVEL, "--filler", NOVEL, "--context", "512",
                  "--segment", "64", "--carry", "64", "--keep", "48", "--tokens", "6000", "--score", "3000", "--distances",
                  "40,600", "--seeds", "1", "--trials", "1", "--threads", "1", "--bias", "3:1"]
        def run():
            done = subprocess.run(recipe, env={**os.environ, "INFINI": COMMAND}, capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout
        table = run()
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        self.assertEqual(rows[0], ["", "state", "after 40", "after 600", "mean NLL"])
        self.assertEqual([row[0] for row in rows[2:]],
                         ["full attention", "window alone", "keeps what surprised", "keeps what it was taught to"])
        self.assertEqual(rows[2][3], "")  # beyond its context
        for row in rows[3:]:
            self.assertRegex(row[2] + row[3], r"^\d+ of 14\d+ of 14$")
            self.assertGreater(float(row[4]), 1)
        times = {path: path.stat().st_mtime_ns for path in made.glob("*.json")}
        self.assertEqual(len(times), 9)
        self.assertEqual(run(), table)
        self.assertEqual({path: path.stat().st_mtime_ns for path in times}, times)

    def test_memories_are_added_up_and_taken_away(self):
        texts = {"a": "The number of Anna is 12345. " * 9, "b": "Once upon a time there was a boy. " * 9}
        for name, text in texts.items():
            (self.folder / name).write_text(text, encoding="utf-8")
            self.run_command("feed", STORIES, *self.KEEPING, "--file", self.folder / name, "--memory-only", "--save",
                             self.folder / (name + ".snap"), "--json")
        a, b, both, rest = (self.folder / name for name in ("a.snap", "b.snap", "both.snap", "rest.snap"))
        added = self.json("snapshot", a, "--merge", b, "--model", STORIES, *self.KEEPING, "--out", both)
        one, other, sum_ = (self.json("snapshot", path)["memory_tokens"] for path in (a, b, both))
        self.assertEqual(sum_, one + other)
        self.assertEqual(added["memory_tokens"], sum_)
        self.assertGreater(added["kept_tokens"], 0)
        taken = self.json("snapshot", both, "--subtract", b, "--model", STORIES, *self.KEEPING, "--out", rest)
        self.assertEqual(taken["memory_tokens"], one)
        self.fails("snapshot", a, "--merge", b, says="--model")
        self.fails("snapshot", a, "--merge", b, "--model", STORIES, "--out", both, says="made with")

    def test_texts_are_read_apart_by_one_command_and_what_they_leave_behind_is_added_up(self):
        texts = {"a": "The number of Anna is 12345. " * 9, "b": "Once upon a time there was a boy. " * 9, "none": ""}
        for name, text in texts.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        paths = [self.folder / name for name in texts]
        for name in "ab":
            self.run_command("feed", STORIES, *self.KEEPING, "--file", self.folder / name, "--memory-only", "--save",
                             self.folder / (name + ".snap"), "--json")
        a, b, both, read, more, rest, empty = (self.folder / (name + ".snap") for name in "a b both read more rest empty".split())
        self.run_command("snapshot", a, "--merge", b, "--model", STORIES, *self.KEEPING, "--out", both, "--json")
        self.run_command("feed", STORIES, *self.KEEPING, "--merge", self.folder / "none", "--save", empty, "--json")
        read_at_once = self.json("feed", STORIES, *self.KEEPING, "--merge", *paths, "--memory-only", "--save", read)
        self.assertEqual(read_at_once["texts"], 3)
        self.assertEqual(read_at_once["memory_tokens"], self.json("snapshot", both)["memory_tokens"] +
                         self.json("snapshot", empty)["memory_tokens"])
        self.assertEqual(read_at_once["tokens"], read_at_once["memory_tokens"])
        self.assertGreater(read_at_once["kept_tokens"], 0)
        # What one of them left behind can be taken away, and another text be added to what there is.
        self.run_command("snapshot", read, "--subtract", b, "--model", STORIES, *self.KEEPING, "--out", rest, "--json")
        added = self.json("feed", STORIES, *self.KEEPING, "--load", rest, "--merge", self.folder / "b", "--save", more)
        self.assertEqual(added["memory_tokens"], read_at_once["memory_tokens"])
        self.assertEqual(added["tokens"], self.json("snapshot", b)["memory_tokens"])

    def test_what_cannot_be_read_apart_is_refused(self):
        text, snap = self.folder / "text", self.folder / "all.snap"
        text.write_text("Once upon a time.", encoding="utf-8")
        self.fails("feed", STORIES, says="--merge")
        self.fails("feed", STORIES, "--merge", text, says="--save")
        self.fails("feed", STORIES, "--merge", text, "--file", text, "--save", snap, says="--file")
        self.fails("feed", STORIES, "--merge", text, "-", "--save", snap, says="standard input")
        self.fails("feed", STORIES, "--merge", text, self.folder / "missing", "--save", snap, says="missing")
        self.assertFalse(snap.exists())


class Merging(support.Test):
    """The shipped model reads pieces of a novel that is held out, each with a key of its own name, apart from each other."""
    MODEL = SOURCE / "samples/models/recall.gguf"
    NAMES = ("red blue green black white old new little great young dark house door church road river sea room table chair "
             "window horse fire water night morning master lady brother sister mother father").split()  # single tokens

    def read(self, text, name):
        (self.folder / name).write_text(text, encoding="utf-8")
        snapshot = self.folder / (name + ".snap")
        self.run_command("feed", self.MODEL, "--file", self.folder / name, "--memory-only", "--save", snapshot, "--threads",
                         "1", "--json")
        return snapshot

    def add_up(self, name, *arguments):
        out = self.folder / name
        self.run_command("snapshot", *arguments, "--model", self.MODEL, "--out", out, "--json")
        return out

    def found(self, snapshot, keys):
        def answer(name):
            prompt = f" What is the {name} key? The {name} key is "
            return self.json("generate", self.MODEL, "--load", snapshot, "--prompt", prompt, "--max-tokens", "6",
                             "--temperature", "0", "--threads", "1")["text"]
        return {name for name, key in keys.items() if re.sub(r"\D", "", answer(name)).startswith(key)}

    def test_pieces_read_apart_and_added_up_are_as_one_stream_and_what_is_taken_away_is_forgotten(self):
        draw = random.Random(4)
        novel = re.sub(r"\s+", " ", (SOURCE / "samples/texts/lord_jim.txt").read_text(encoding="utf-8"))
        keys = {name: format(draw.randrange(100000), "05d") for name in self.NAMES}
        texts = []
        for i, (name, key) in enumerate(keys.items()):
            text = novel[20000 + 1500 * i:][:1500]
            cut = text.rfind(" ", 0, 800)
            texts.append(f"{text[:cut]} The {name} key is {key}. Remember it. {key} is the {name} key.{text[cut:]}")
        pieces = [self.read(text, f"piece{i}") for i, text in enumerate(texts)]
        whole = self.found(self.read("".join(texts), "whole"), keys)
        total = self.folder / "total"
        self.run_command("feed", self.MODEL, "--merge", *(self.folder / f"piece{i}" for i in range(len(texts))),
                         "--memory-only", "--save", total, "--threads", "1", "--json")
        added = self.found(total, keys)
        less = self.found(self.add_up("less", total, "--subtract", *pieces[:16]), keys)
        gone, stay = set(self.NAMES[:16]), set(self.NAMES[16:])
        self.assertGreaterEqual(len(whole), 30)
        self.assertLessEqual(abs(len(added) - len(whole)), 1)  # 0.05 of 32
        self.assertLessEqual(len(less & gone), 2)  # 0.15 of 16
        self.assertGreaterEqual(len(less & stay), len(added & stay) - 1)


if __name__ == "__main__":
    skips.main()
