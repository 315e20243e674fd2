"""infini recall: facts that are told in running text and asked for later."""
import unittest

import support
from support import STORIES


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

    def test_full_attention_stands_beside_up_to_the_context(self):
        answer = self.recall("--distance", "50,100000", "--kind", "digits", "--full")
        self.assertEqual([column["name"] for column in answer["columns"]], ["model", "full attention"])
        self.assertEqual({row["distance"] for row in answer["columns"][1]["results"]}, set())  # its context is too short
        self.assertEqual({row["distance"] for row in answer["columns"][0]["results"]}, {50, 100000})

    def test_a_table_is_shown_and_mistakes_are_said(self):
        shown, _ = self.run_command("recall", STORIES, "--distance", "50", "--trials", "1", "--kind", "places")
        self.assertIn("places", shown)
        self.assertIn("state", shown)
        self.fails("recall", STORIES, "--form", "chat", "--distance", "50", says="chat template")
        self.fails("recall", STORIES, "--kind", "weather", says="--kind")


if __name__ == "__main__":
    unittest.main()
