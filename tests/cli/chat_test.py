"""infini chat, as a person at a terminal uses it, and as a pipe does."""
import json
import signal
import subprocess
import time

import skips
from support import COMMAND, EXACT, STORIES, Terminal, Test, spoken, unittest, with_chat_template

CHATML = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"
ENDLESS = ["--ignore-end", "--max-tokens", -1]


class ChatTest(Test):
    def setUp(self):
        super().setUp()
        self.model, self.saved = self.folder / "chat.gguf", self.folder / "friend.snap"
        with_chat_template(STORIES, self.model, CHATML)

    def answers(self, *flags, stdin):
        output, _ = self.run_command("chat", self.model, "--json", *flags, *EXACT, stdin=stdin)
        return [json.loads(line) for line in output.splitlines()]

    def terminal(self, *flags):
        terminal = Terminal("chat", self.model, *flags, *EXACT)
        terminal.wait_for("Ctrl-D leaves.")
        terminal.wait_for("> ")
        return terminal


class Pipe(ChatTest):
    def test_a_line_that_is_not_utf8_is_refused_and_the_chat_goes_on(self):
        answers = self.answers("--max-tokens", 4, "--save", self.saved, stdin=b"caf\xe9\nGo on.\n")
        self.assertEqual(answers[0], {"error": "this line is not UTF-8"})
        self.assertEqual(answers[1], self.answers("--max-tokens", 4, stdin=b"Go on.\n")[0] | {
            key: answers[1][key] for key in ("tokens_per_second", "resident_bytes", "session_bytes")})
        self.assertTrue(self.saved.exists())
        done = subprocess.run([COMMAND, "chat", self.model, "--max-tokens", "4"], input=b"caf\xe9\n", capture_output=True)
        self.assertEqual((done.returncode, done.stdout), (0, b""))
        self.assertEqual(spoken(done.stderr.decode()), "infini: this line is not UTF-8\n")

    def test_a_session_is_gone_on_with_if_it_is_there(self):
        flags = ["--max-tokens", 6, "--system", "Tell stories."]
        whole = self.answers(*flags, stdin=b"Who?\nAnd then?\n")
        first = self.answers(*flags, "--session", self.saved, stdin=b"Who?\n")
        second = self.answers(*flags, "--session", self.saved, stdin=b"And then?\n")
        self.assertEqual([answer["text"] for answer in first + second], [answer["text"] for answer in whole])
        self.fails("chat", self.model, "--session", self.saved, "--save", self.saved, says="--save")
        self.fails("chat", self.model, "--session", "", says="names no file")

    def test_defaults_are_those_of_a_conversation(self):
        help_text, _ = self.run_command("chat", "--help")
        for shown in ("--temperature NUMBER=0.7", "--repetition-penalty NUMBER=1.1", "--max-tokens INT=4096"):
            self.assertIn(shown, help_text)
        said, plain = b"Once upon a time\n", ["--max-tokens", 40]
        texts = [self.answers(*plain, *flags, stdin=said)[0]["text"]
                 for flags in ([], ["--temperature", 0.7, "--repetition-penalty", 1.1], ["--temperature", 0, "--repetition-penalty", 1])]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_control_tokens_in_a_line_are_a_persons_words(self):
        plain = self.json("tokenize", self.model, "--text", "Hello</s>")["tokens"]
        marked = self.json("tokenize", self.model, "--text", "Hello</s>", "--special")["tokens"]
        self.assertGreater(plain, marked)
        positions = []
        for line in (b"Hello</s>\n", b"Hello\n"):
            saved = self.folder / "fresh.snap"
            self.answers("--max-tokens", 1, "--save", saved, stdin=line)
            positions.append(self.json("snapshot", saved)["position"])
        self.assertEqual(positions[0] - positions[1], plain - self.json("tokenize", self.model, "--text", "Hello")["tokens"])

    def test_commands_are_a_persons_at_a_terminal(self):
        self.assertEqual(len(self.answers("--max-tokens", 2, stdin=b"/quit\n/save x\n")), 2)


class AtATerminal(ChatTest):
    def test_ctrl_c_stops_the_reply_and_the_conversation_goes_on(self):
        chat = self.terminal(*ENDLESS, "--session", self.saved)
        chat.type("Who are you?\r")
        chat.wait_for("\n")
        chat.wait_for(" ")  # of the reply
        chat.type(CTRL_C)
        chat.wait_for("(stopped")
        chat.wait_for("> ")
        chat.type("/memory\r")
        chat.wait_for("tokens read and written")
        chat.wait_for("has no trained memory")
        chat.wait_for("> ")
        chat.type("\r")  # goes on with the reply
        chat.wait_for("\n")
        chat.wait_for(" ")
        chat.type(CTRL_C)
        chat.wait_for("(stopped")
        chat.wait_for("> ")
        chat.type(CTRL_D)
        code, shown = chat.end()
        self.assertEqual(code, 0, shown)
        self.assertIn(f"(saved in {self.saved})", shown)
        self.assertGreater(self.json("snapshot", self.saved)["position"], 20)
        again = Terminal("chat", self.model, "--session", self.saved, *EXACT)
        again.wait_for("The conversation goes on.")
        again.wait_for("> ")
        again.type("/quit\r")
        self.assertEqual(again.end()[0], 0)

    def test_ctrl_c_twice_at_the_prompt_leaves_after_saving(self):
        chat = self.terminal("--save", self.saved, "--max-tokens", 3)
        chat.type("Hello.\r")
        chat.wait_for("(cut after 3 tokens")
        chat.wait_for("> ")
        chat.type("What I do not mean to say" + CTRL_C)  # meant for the reply, say, which had ended
        chat.wait_for("Ctrl-C again")
        chat.wait_for("> ")
        chat.type("/memory\r")
        chat.wait_for("tokens read and written")
        chat.wait_for("> ")
        chat.type(CTRL_C)
        chat.wait_for("Ctrl-C again")
        chat.wait_for("> ")
        chat.type(CTRL_C)
        code, shown = chat.end()
        self.assertEqual(code, 1)
        self.assertIn(f"is saved in {self.saved}", shown)
        self.assertTrue(self.saved.exists())

    def test_a_terminal_that_is_closed_saves(self):
        chat = self.terminal(*ENDLESS, "--session", self.saved)
        chat.type("Hello.\r")
        chat.wait_for("\n")
        chat.wait_for(" ")
        chat.process.send_signal(signal.SIGHUP)
        code, shown = chat.end()
        self.assertEqual(code, 1, shown)
        self.assertTrue(self.saved.exists(), shown)

    def test_a_signal_is_heard_whenever_it_comes(self):
        for pause in (0, 0, 0.001, 0.003, 0.01, 0.02):
            chat = self.terminal(*ENDLESS, "--session", self.saved)
            chat.type("Hello.\r")
            time.sleep(pause)
            chat.process.send_signal(signal.SIGTERM)
            code, shown = chat.end()
            self.assertEqual(code, 1, shown)
            self.assertTrue(self.saved.exists(), shown)
            self.saved.unlink()

    def test_commands(self):
        chat = self.terminal("--max-tokens", 3)
        other = self.folder / "other.snap"
        for typed, shown in (("/help", "/reset"), ("/dance", "there is no /dance"), ("/save", "name a file"), ("/load", "name a file"),
                             ("/load " + str(other), "other.snap"), ("Hello.", "(cut after"), (f"/save {other}", f"(saved in {other})"),
                             ("/reset", "(forgotten)"), ("/memory", "\n0 tokens read"), (f"/load {other}", "(goes on with"), ("//dance", "(cut after")):
            chat.type(typed + "\r")
            chat.wait_for("\n")
            if shown.startswith("\n"):
                chat.shown = "\n" + chat.shown
            chat.wait_for(shown)
            chat.wait_for("\n> ")
        chat.type("/quit\r")
        self.assertEqual(chat.end()[0], 0)

    @unittest.skipUnless(b"libedit" in subprocess.run(["ldd", COMMAND], capture_output=True).stdout, "built without libedit")
    def test_lines_are_edited_and_remembered(self):
        chat = self.terminal("--max-tokens", 3)
        chat.type("/dence\x02\x02\x02\x02\x04a\r")  # back to the e, which goes, and an a
        chat.wait_for("there is no /dance")
        chat.wait_for("> ")
        chat.type(UP + "r\r")
        chat.wait_for("there is no /dancer")
        chat.wait_for("> ")
        chat.type("/é\x7f\x7f/ö\r")  # a letter of two bytes is one
        chat.wait_for("there is no /ö")
        chat.wait_for("> ")
        chat.type(CTRL_D)
        self.assertEqual(chat.end()[0], 0)

    def test_ctrl_d_amid_a_reply_leaves_after_it(self):
        chat = self.terminal("--ignore-end", "--max-tokens", 2000)
        chat.type("Hello.\r")
        chat.wait_for("\n")
        chat.wait_for(" ")  # of the reply
        chat.type(CTRL_D)
        code, shown = chat.end()
        self.assertEqual(code, 0, shown)
        self.assertIn("(cut after 2,000 tokens", shown)


if __name__ == "__main__":
    skips.main()
