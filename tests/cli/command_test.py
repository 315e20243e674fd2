"""Every subcommand: what it prints, the keys of its JSON, and how it fails."""
import json
import os
import re

import skips
from support import EXACT, GOLDEN, NOVEL, SOURCE, STORIES, Test, unittest, with_chat_template

STORY = GOLDEN["story"].encode()


class Info(Test):
    def test_json_tells_the_shape(self):
        info = self.json("info", STORIES)
        self.assertEqual(info["name"], "stories260K")
        self.assertEqual((info["layers"], info["width"], info["heads"], info["kv_heads"]), (5, 64, 8, 4))
        self.assertEqual(info["vocabulary"], 512)

    def test_text_has_a_line_a_fact(self):
        output, _ = self.run_command("info", STORIES)
        self.assertRegex(output, r"(?m)^parameters +260,032$")

    def test_the_models_are_those_of_their_card(self):
        import hashlib
        card = (SOURCE / "samples/models/README.md").read_text(encoding="utf-8")
        for model in (STORIES, SOURCE / "samples/models/recall.gguf"):
            self.assertIn(hashlib.sha256(model.read_bytes()).hexdigest(), card)
        self.assertEqual(self.json("info", SOURCE / "samples/models/recall.gguf")["name"], "recall")

    def test_the_quick_starts_fact_is_remembered(self):
        """What samples/quickstart.sh shows, with the beginning of the novel; the names that the card lists are known."""
        model, saved = SOURCE / "samples/models/recall.gguf", self.folder / "memory.snap"
        script = (SOURCE / "samples/quickstart.sh").read_text(encoding="utf-8")
        told = re.search(r"told='(.*)'", script)[1]
        asked = re.search(r"--prompt '(.*?)'", script)[1]
        prose = (SOURCE / "samples/texts/lord_jim.txt").read_text(encoding="utf-8")
        text = prose[:40_000] + "\n" + told + "\n" + prose[40_000:80_000]
        self.json("feed", model, "--file", "-", "--save", saved, "--threads", 1, stdin=text.encode())
        answer = self.json("generate", model, "--load", saved, "--prompt", asked, "--max-tokens", 5, "--threads", 1)["text"]
        self.assertEqual(answer, re.search(r"\d{5}", told)[0])
        names = re.search(r"Names: ([a-z ,\n]*)\.", (SOURCE / "samples/models/README.md").read_text(encoding="utf-8"))[1].replace("\n", " ").split(", ")
        self.assertGreater(len(names), 30)
        for name in names:
            self.assertEqual(self.json("tokenize", model, "--text", f" {name}")["tokens"], 1, name)

    def test_options_show(self):
        self.assertEqual(self.json("info", STORIES, "--compute", "f32")["compute"], "f32")
        self.assertEqual(self.json("info", STORIES, "--segment", 100)["segment"], 100)


class Tokens(Test):
    def test_there_and_back(self):
        ids = self.json("tokenize", STORIES, "--text", GOLDEN["story"])["ids"]
        self.assertEqual(ids, [1] + GOLDEN["story_ids"])
        self.assertEqual(self.json("detokenize", STORIES, *ids)["text"], GOLDEN["story"])

    def test_text_output_is_the_input_of_the_other(self):
        output, _ = self.run_command("tokenize", STORIES, "--text", "Once upon a time")
        self.assertEqual(output, "1 403 407 261 378\n")
        output, _ = self.run_command("detokenize", STORIES, *output.split())
        self.assertEqual(output, "Once upon a time\n")

    def test_file_and_standard_input(self):
        file = self.folder / "story.txt"
        file.write_bytes(STORY)
        ids = [1] + GOLDEN["story_ids"]
        self.assertEqual(self.json("tokenize", STORIES, "--file", file), {"ids": ids, "tokens": len(ids)})
        self.assertEqual(self.json("tokenize", STORIES, "--file", "-", stdin=STORY)["ids"], ids)

    def test_failures(self):
        self.fails("tokenize", STORIES, says="--text or --file")
        self.fails("detokenize", STORIES, 512, says="512")
        self.fails("tokenize", STORIES, "--file", "-", stdin=b"ab\xff", says="2")


class Generate(Test):
    greedy = GOLDEN["greedy_text"].replace("<0x0A>", "\n")

    def test_greedy_text_is_the_golden_one(self):
        answer = self.json("generate", STORIES, "--prompt", "", *EXACT)
        self.assertEqual(answer["text"], self.greedy)
        self.assertEqual(answer["tokens"], len(GOLDEN["greedy_from_bos_ids"]))
        self.assertEqual(answer["stop_reason"], "max_tokens")
        self.assertEqual(answer["prompt_tokens"], 1)

    def test_text_streams_to_standard_output(self):
        output, _ = self.run_command("generate", STORIES, "--prompt", "", *EXACT)
        self.assertEqual(output, self.greedy + "\n")

    def test_prompt_and_file_say_the_same(self):
        file = self.folder / "prompt.txt"
        file.write_text("Once upon a time")
        flags = [*EXACT, "--max-tokens", 20]
        by_prompt = self.json("generate", STORIES, "--prompt", "Once upon a time", *flags)
        by_file = self.json("generate", STORIES, "--file", file, *flags)
        self.assertEqual(by_prompt["text"], by_file["text"])
        self.assertEqual(by_prompt["tokens"], 20)
        self.assertTrue(self.greedy.startswith("Once upon a time" + by_prompt["text"]))

    def test_stop_text_is_withheld(self):
        answer = self.json("generate", STORIES, "--prompt", "", "--stop", "never", "--stop", "Lily. She", *EXACT)
        self.assertEqual(answer["text"], self.greedy[: self.greedy.index("Lily. She")])
        self.assertEqual(answer["stop_reason"], "stop_string")
        answer = self.json("generate", STORIES, "--prompt", "", "--stop", "\\nLily's mom", *EXACT)
        self.assertEqual(answer["text"], self.greedy[: self.greedy.index("\nLily's mom")])

    def test_a_seed_is_a_text(self):
        def text(seed):
            flags = ["--temperature", 1, "--top-k", 100, "--top-p", 0.95, "--min-p", 0.01, "--max-tokens", 60]
            return self.json("generate", STORIES, "--prompt", "One day", "--seed", seed, *flags, *EXACT)["text"]

        self.assertEqual(text(1), text(1))
        self.assertNotEqual(text(1), text(2))

    def test_failures(self):
        self.fails("generate", STORIES, says="--prompt or --file")
        self.fails("generate", STORIES, "--prompt", "a", "--file", "b")
        self.fails("generate", STORIES, "--file", self.folder / "none.txt", says="none.txt")
        self.fails("generate", STORIES, "--prompt", "a", "--temperature", "hot", says="hot")
        self.fails("generate", STORIES, "--prompt", "a", "--top-p", 2, says="top_p")
        self.fails("generate", STORIES, "--prompt", "a", "--compute", "f64", says="f32")


class Chat(Test):
    chatml = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"

    def test_answers_each_line(self):
        model = self.folder / "chat.gguf"
        with_chat_template(STORIES, model, self.chatml)
        self.assertEqual(self.json("info", model)["chat_template"], "chatml")
        output, _ = self.run_command("chat", model, "--json", "--system", "Tell stories.", "--max-tokens", 8, *EXACT,
                                     stdin=b"Who are you?\nGo on.\n")
        answers = [json.loads(line) for line in output.splitlines()]
        self.assertEqual(len(answers), 2)
        for answer in answers:
            self.assertGreater(answer["tokens"], 0)
            self.assertIn(answer["stop_reason"], ("max_tokens", "end_token"))
        output, _ = self.run_command("chat", model, "--max-tokens", 8, *EXACT, stdin=b"Who are you?\n")
        self.assertTrue(output.endswith("\n"))

    def test_a_model_without_a_template_is_an_error(self):
        self.fails("chat", STORIES, stdin=b"Hello\n", says="template")


class Score(Test):
    def test_likelihood_is_the_golden_one(self):
        score = self.json("score", STORIES, "--file", "-", *EXACT, stdin=STORY)
        self.assertEqual(score["tokens"], len(GOLDEN["story_ids"]))
        self.assertAlmostEqual(score["nll_mean"], GOLDEN["story_mean_nll_nats_per_token_given_bos"], delta=1e-5)
        self.assertAlmostEqual(score["perplexity"], 2.171478, delta=1e-4)
        self.assertGreater(score["tokens_per_second"], 0)

    def test_text_output(self):
        output, _ = self.run_command("score", STORIES, "--file", "-", *EXACT, stdin=STORY)
        self.assertRegex(output, r"(?m)^nll_mean +0\.77540\d nats$")

    def test_loss_is_shown_by_position_and_by_what_the_text_had_before(self):
        text = self.folder / "text.txt"
        text.write_bytes(NOVEL.read_bytes()[:40000])
        whole = self.json("score", STORIES, "--file", text, *EXACT, "--segment", "64", "--memory", "off", "--far", "64")
        plain = self.json("score", STORIES, "--file", text, *EXACT, "--segment", "64", "--memory", "off")
        self.assertEqual(whole["tokens"], plain["tokens"])
        self.assertAlmostEqual(whole["nll_mean"], plain["nll_mean"], delta=1e-5)
        ids = self.json("tokenize", STORIES, "--file", text)["ids"]
        last, counts = {}, {"new": 0, "near": 0, "far": 0}
        for i, pair in enumerate(zip([-1] + ids, ids)):
            counts["new" if pair not in last else "near" if i - last[pair] <= 64 else "far"] += i > 0
            last[pair] = i
        self.assertEqual({name: part["tokens"] for name, part in whole["pairs"].items()}, counts)
        starts = [part["from"] for part in whole["positions"]]
        self.assertEqual(starts, [0, *(1024 << i for i in range(len(starts) - 1))])
        self.assertEqual([part["tokens"] for part in whole["positions"][:-1]], [1023, *starts[1:-1]])
        for parts in (whole["pairs"].values(), whole["positions"]):
            self.assertEqual(sum(part["tokens"] for part in parts), whole["tokens"])
            self.assertAlmostEqual(sum(part["tokens"] * part["nll_mean"] for part in parts) / whole["tokens"],
                                   whole["nll_mean"], delta=1e-9)
        shown, _ = self.run_command("score", STORIES, "--file", "-", *EXACT, "--far", "8", stdin=STORY)
        self.assertRegex(shown, r"(?m)^had farther back +\d+  \d\.\d{4}$")
        self.fails("score", STORIES, "--file", text, "--far", "8", "--special", says="--special")

    def test_an_empty_text_is_an_error(self):
        self.fails("score", STORIES, "--file", "-", says="token")
        self.fails("score", STORIES, "--file", "-", "--far", "8", says="token")


class Footprint(Test):
    def test_the_papers_values(self):
        paper = self.json("footprint", "--paper")
        values = {entry["method"]: entry["values"] for entry in paper["results"][0]["methods"]}
        self.assertEqual(values["transformer_xl"], 50_331_648)
        self.assertEqual(values["memorizing_transformer"], 183_451_648)
        self.assertEqual(values["rmt"], 2_457_600)
        self.assertEqual(values["infini_attention"], 1_585_152)
        self.assertAlmostEqual(paper["ratio"], 115.7, delta=0.05)
        output, _ = self.run_command("footprint", "--paper")
        for text in ("50,331,648", "183,451,648", "2,457,600", "1,585,152", "115.7x"):
            self.assertIn(text, output)

    def test_only_the_cache_grows_without_bound(self):
        results = self.json("footprint", STORIES, *EXACT)["results"]
        self.assertEqual([result["tokens"] for result in results], [1000, 10_000, 100_000, 1_000_000, 10_000_000])
        held = [{entry["method"]: entry["bytes"] for entry in result["methods"]} for result in results]
        self.assertEqual(held[4]["kv_cache"], 10_000 * held[0]["kv_cache"])
        self.assertEqual(held[4]["infini_attention"], held[0]["infini_attention"])
        self.assertEqual(held[0]["kv_cache"], 1000 * 5 * 4 * 16 * 4)  # tokens, layers, KV heads, key and value, bytes
        read = self.json("feed", STORIES, "--file", NOVEL, "--max-tokens", 2000, *EXACT)
        for result in results:
            # A text comes in pieces of which none may fill the longest chunk.
            self.assertLess(read["session_bytes"], 1.01 * result["session_bytes"])
            self.assertGreater(read["session_bytes"], 0.8 * result["session_bytes"])
        shown, _ = self.run_command("footprint", STORIES)
        self.assertIn("A session, in all", shown)

    def test_failures(self):
        self.fails("footprint", says="MODEL")


class Bench(Test):
    def test_results(self):
        bench = self.json("bench", STORIES, "--depth", "0,300", "--runs", 1, "--generate", 4, *EXACT)
        self.assertEqual([(row["compute"], row["depth"]) for row in bench["results"]], [("f32", 0), ("f32", 300)])
        for row in bench["results"]:
            for key in ("feed_tokens_per_second", "feed_ceiling_ratio", "generate_tokens_per_second",
                        "generate_bandwidth_ratio"):
                self.assertGreater(row[key], 0, key)

    def test_batch(self):
        row, = self.json("bench", STORIES, "--batch", 3, "--runs", 1, "--generate", 4, *EXACT)["results"]
        self.assertEqual(row["batch"], 3)
        self.assertAlmostEqual(row["batch_ratio"], row["batch_tokens_per_second"] / row["generate_tokens_per_second"])
        output, _ = self.run_command("bench", STORIES, "--batch", 3, "--runs", 1, "--generate", 4, *EXACT)
        self.assertIn("3 sessions together", output)

    def test_text_has_a_line_a_result(self):
        output, _ = self.run_command("bench", STORIES, "--runs", 1, "--generate", 4, "--memory", "off", *EXACT)
        self.assertEqual(len(output.splitlines()), 2)

    def test_training(self):
        small = ("--train", "--runs", 1, "--segments", 2, "--tokens", 256, "--segment", 64, *EXACT)
        bench = self.json("bench", STORIES, *small)
        row, = bench["results"]
        for key in ("train_tokens_per_second", "train_operations_per_second", "train_ceiling_ratio"):
            self.assertGreater(row[key], 0, key)
        output, _ = self.run_command("bench", STORIES, *small)
        self.assertEqual(len(output.splitlines()), 2)

    def test_failures(self):
        self.fails("bench", STORIES, "--depth", "deep", says="deep")
        self.fails("bench", says="MODEL")


class Manners(Test):
    commands = "info tokenize detokenize generate chat score logits feed snapshot bench footprint passkey train options".split()

    def test_help_teaches(self):
        output, _ = self.run_command("--help")
        for command in self.commands:
            self.assertIn(f"  {command} ", output)
            help_text, _ = self.run_command(command, "--help")
            self.assertIn("Examples:\n  infini " if command != "chat" else "Examples:\n", help_text)
            self.assertIn("--json", help_text)
        self.assertRegex(self.run_command("--version")[0], r"^infini \d+\.\d+\.\d+\n$")

    def test_wrong_arguments(self):
        self.fails(says="subcommand")
        self.fails("dance", says="there is no command 'dance'")
        self.fails("genrate", STORIES, says="is generate meant?")
        self.fails("feed", STORIES, "--max-token", 5, says="is --max-tokens meant?")
        self.fails("info")
        self.fails("info", STORIES, "--no-such-flag", says="--no-such-flag")
        self.fails("info", STORIES, "--threads", "x", says="x")

    def test_numbers_are_refused_alike(self):
        large = "9" * 25
        for flags in (("feed", STORIES, "--file", NOVEL, "--every"), ("feed", STORIES, "--file", NOVEL, "--max-tokens"),
                      ("generate", STORIES, "--prompt", "x", "--max-tokens"), ("generate", STORIES, "--prompt", "x", "--seed"),
                      ("detokenize", STORIES), ("train", STORIES, "--text", NOVEL, "--out", "o.gguf", "--steps")):
            self.fails(*flags, large, says="is too large: no number is above ")
            self.fails(*flags, "1.5", says="takes a whole number, ")
        self.fails("generate", STORIES, "--prompt", "x", "--temperature", "hot", says="takes a number, not 'hot'")
        for command in ("passkey", "recall"):
            self.fails(command, STORIES, "--trials", 2**62, says="--trials")

    def test_where_nothing_can_be_kept_is_told_at_once(self):
        pipe, dangling = self.folder / "pipe", self.folder / "dangling"
        os.mkfifo(pipe)
        dangling.symlink_to(self.folder / "missing" / "x.snap")
        for path in ("/dev/null", "/dev/full", pipe, dangling, "-", self.folder):
            self.fails("generate", STORIES, "--prompt", "x", "--save", path, says="--save: ")

    def test_help_shows_every_default(self):
        for name, value in (("--max-tokens INT", "256"), ("--chunk INT", "512"), ("--compute TEXT", "auto"), ("--penalty-window INT", "64")):
            self.assertIn(f"{name}={value}", self.run_command("generate", "--help")[0])

    def test_nobody_sees_an_exception_of_a_library(self):
        description, names = self.folder / "d.json", b"\xff.txt"
        for text in ("{", "[1]", '{"training": {"steps": "many"}}', '{"training": 3}', '{"data": [], "training": {}}', '"\ud800"'):
            description.write_text(text, encoding="utf-8", errors="surrogatepass")
            errors = self.fails("train", STORIES, "--description", description, "--out", self.folder / "o.gguf")
            self.assertNotIn("json.exception", errors)
        import subprocess

        from support import COMMAND
        for arguments in ([b"train", STORIES, b"--text", names, b"--out", self.folder / "o.gguf"], [b"feed", STORIES, b"--file", names],
                          [b"feed", STORIES, b"--file", NOVEL, b"--max-tokens", b"1", b"--save", self.folder / ("x" * 300)]):
            done = subprocess.run([COMMAND, *arguments], capture_output=True)
            self.assertEqual(done.returncode, 1)
            for word in (b"json.exception", b"filesystem error", b"std::"):
                self.assertNotIn(word, done.stderr)

    def test_a_model_without_a_memory_says_so(self):
        import subprocess

        from support import COMMAND
        for arguments in (["feed", STORIES, "--file", NOVEL, "--max-tokens", "5"], ["generate", STORIES, "--file", "/dev/null", "--max-tokens", "1"]):
            done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True)
            self.assertEqual(done.stderr, f"{STORIES} has no trained memory: it sees only its window of 512 tokens. "
                                          f"`infini train {STORIES} --adapt` teaches it one.\n")
        done = subprocess.run([COMMAND, "feed", SOURCE / "samples/models/recall.gguf", "--file", NOVEL, "--max-tokens", "5"], capture_output=True)
        self.assertEqual(done.stderr, b"")

    def test_bad_files(self):
        missing, text, cut = self.folder / "missing.gguf", self.folder / "text.gguf", self.folder / "cut.gguf"
        text.write_text("not a model")
        cut.write_bytes(STORIES.read_bytes()[:100_000])
        self.fails("info", missing, says="missing.gguf")
        self.fails("info", missing, "--json", says="missing.gguf")
        self.fails("info", text)
        self.fails("info", cut)
        self.fails("feed", STORIES, "--file", self.folder, says="is a folder")

    def test_a_full_disk_is_an_error(self):
        import subprocess

        from support import COMMAND
        with open("/dev/full", "wb") as full:
            done = subprocess.run([COMMAND, "footprint", "--paper"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"No space left", done.stderr)

    def test_every_option_is_in_the_readme(self):
        def row(option):
            allowed = " ".join(f"`{choice}`" for choice in option.get("choices") or ())
            if "least" in option:
                bounds = [f"{option[end]:.10g}" if end in option and abs(option[end]) < 1e15 else "" for end in ("least", "greatest")]
                allowed = f"{bounds[0]} to {bounds[1]}" if bounds[1] else f"from {bounds[0]}"
            default = option["default"] if option["default"] != "" else '""'
            help_text = option["help"].replace("|", "\\|")
            return f"| `{option['name']}` | {option.get('scope', '')} | {option['type']} | `{default}` | {allowed} | {help_text} |"

        table = "\n".join(map(row, self.json("options")["options"]))
        readme = (SOURCE / "samples/infini/README.md").read_text(encoding="utf-8")
        self.assertIn(table, readme, "the table of options should be\n" + table)
        for option in self.json("options")["options"]:
            self.assertIn(option["name"], self.run_command("options")[0])

    def test_training_is_described_by_a_table_that_its_help_and_flags_follow(self):
        training, data, curriculum, evaluation = table = self.json("options", "--training")["fields"]
        self.assertEqual([field["name"] for field in table], ["training", "data", "curriculum", "evaluation"])
        self.assertTrue(data["required"] and evaluation["fields"][0]["required"])
        for flag, field in (("--creation", "head_size"), ("--adaptation", "teach_steps"), ("--keep", "stray")):
            self.assertIn(field, [each["name"] for each in self.json("options", flag)["fields"]])
            self.assertIn(field, self.run_command("options", flag)[0])
        shown, _ = self.run_command("options", "--training")
        # Each word for itself: help breaks lines.
        flags = self.run_command("train", "--help")[0].split()
        for field in training["fields"]:
            self.assertRegex(shown, rf"(?m)^  {field['name']} +{field['type']} ")
            if field["name"] in ("optimizer", "muon_rate", "schedule", "sinks"):
                self.assertIn("--" + field["name"].replace("_", "-"), flags)
                self.assertIn(" ".join(field["help"].split()), " ".join(flags))
        self.assertRegex(shown, r"(?m)^data +object +required ")
        self.assertRegex(shown, r"(?m)^  data +json +required ")
        for kind, fields in data["types"].items():
            self.assertIn(f'"type": "{kind}"', shown)
            self.assertEqual(fields[0]["name"], "type")
        for field in curriculum["fields"][-1]["fields"]:
            self.assertRegex(shown, rf"(?m)^    {field['name']} +{field['type']} ")

    def test_every_key_is_in_the_readme(self):
        documented = set(re.findall(r"`(\w+)`", (SOURCE / "samples/infini/README.md").read_text(encoding="utf-8")))
        out, saved = self.folder / "logits.npy", self.folder / "saved.snap"
        outputs = [
            self.json("feed", STORIES, "--file", NOVEL, "--max-tokens", 600, "--save", saved, *EXACT),
            self.json("snapshot", saved),
            self.json("snapshot", saved, "--diff", saved),
            self.json("generate", STORIES, "--load", saved, "--max-tokens", 1, "--save", saved, *EXACT),
            self.json("bench", STORIES, "--snapshot", "--depth", 1, "--runs", 1, "--folder", self.folder, *EXACT),
            self.json("info", STORIES),
            self.json("options"),
            self.json("options", "--training")["fields"][0]["fields"][2],
            self.json("tokenize", STORIES, "--text", "a"),
            self.json("detokenize", STORIES, 403),
            self.json("generate", STORIES, "--prompt", "a", "--max-tokens", 1, *EXACT),
            self.json("score", STORIES, "--file", "-", *EXACT, stdin=STORY),
            self.json("logits", STORIES, "--text", "a", "--out", out, *EXACT),
            self.json("feed", STORIES, "--file", NOVEL, "--max-tokens", 600, "--every", 200, *EXACT),
            self.json("bench", STORIES, "--runs", 1, "--generate", 1, *EXACT),
            self.json("footprint", "--paper"),
            self.json("passkey", STORIES, "--length", 300, "--trials", 1, *EXACT),
            self.json("train", STORIES, "--text", NOVEL, "--held-out", NOVEL, "--steps", 1, "--tokens", 64, "--segment", 32,
                      "--segments", 2, "--out", self.folder / "trained.gguf", *EXACT),
        ]

        def keys(value):
            if isinstance(value, dict):
                return set(value).union(*map(keys, value.values()))
            return set().union(*map(keys, value)) if isinstance(value, list) else set()

        self.assertEqual(keys(outputs) - documented, set())


if __name__ == "__main__":
    skips.main()
