"""tests/bench/plot.py: pictures that show what the files say, and errors that name what they do not."""
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "bench/plot.py"
SVG = "{http://www.w3.org/2000/svg}"
sys.path.insert(0, str(SCRIPT.parent))
import plot  # noqa: E402
import skips  # noqa: E402


def setUpModule():
    if not shutil.which("gnuplot"):
        raise unittest.SkipTest("pictures need `gnuplot`, which is not on the path")


def log_line(step):
    return {"step": step, "tokens": 8192 * step, "loss": 6 * math.exp(-step / 50), "recall_across": 1 - math.exp(-step / 30),
            "recall_inside": None if step == 3 else 0.5, "tokens_per_second": 1e4, "gates": [[0.5, step / 100], [0.25, 0.75]]}


class Plot(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_plot(self, *arguments):
        return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, encoding="utf-8", check=False)

    def plot(self, *files):
        """The picture of the files, and what it was drawn from."""
        out = self.folder / "out.svg"
        ran = self.run_plot(*files, out)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))
        self.assertNotRegex(out.read_text(encoding="utf-8"), "(?i)[\"= ,](-?nan|-?inf)[\", ]")
        return xml.parse(out).getroot(), plot.charts_of(files)

    def fails(self, *arguments, says):
        ran = self.run_plot(*arguments)
        self.assertNotEqual(ran.returncode, 0)
        self.assertIn(says, ran.stderr)
        self.assertNotIn("Traceback", ran.stderr)

    def write(self, name, *values):
        file = self.folder / name
        file.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
        return file

    def texts(self, drawn):
        return ["".join(text.itertext()).strip() for text in drawn[0].iter(SVG + "text")]

    def places(self, drawn):
        """From the left, of each text; gnuplot moves the group around it."""
        places = {}
        for group in drawn[0].iter(SVG + "g"):
            moved = re.match(r"translate\(([\d.]+),", group.get("transform", ""))
            if moved:
                places["".join(group.itertext()).strip()] = float(moved[1])
        return places

    def lines(self, drawn):
        """Points of every line that is not the pale one beneath a mean; each is in the picture."""
        lines = [curve for chart in drawn[1] for line in chart["series"] for curve, pale in plot.curves(line) if not pale]
        curves = [path.get("d") for path in drawn[0].iter(SVG + "path") if path.get("fill") == "none" or path.get("d")]
        for line in lines:
            self.assertTrue(any(curve.count(",") >= len(line) for curve in curves), f"no curve of {len(line)} points")
        return lines

    def test_a_log_of_named_values_shows_whole_answers_and_where_they_were_looked_for(self):
        lines = [{**log_line(step), "exact_across": step / 200, "source_share": 1 - step / 200} for step in range(1, 101)]
        picture = self.plot(self.write("log.jsonl", *lines))
        for text in ("answers across", "retrieval on source"):
            self.assertIn(text, self.texts(picture))
        _, across, exact, inside, source = self.lines(picture)[:5]
        self.assertEqual((len(across), len(exact), len(inside), len(source)), (100, 100, 99, 100))
        self.assertTrue(all(a[1] < b[1] for a, b in zip(exact, exact[1:])))
        self.assertTrue(all(a[1] > b[1] for a, b in zip(source, source[1:])))

    def test_a_log_shows_loss_recall_gates_and_speed(self):
        picture = self.plot(self.write("log.jsonl", *map(log_line, range(1, 101))))
        texts = self.texts(picture)
        for text in ("Loss", "Recall of named values, across segments and inside", "digits across", "digits inside", "layer 0", "layer 1", "Speed", "step"):
            self.assertIn(text, texts)
        lines = self.lines(picture)
        self.assertEqual(len(lines), 1 + 2 + 4 + 1)
        loss, across, inside = lines[:3]
        self.assertEqual((len(loss), len(across), len(inside)), (100, 100, 99))  # a null is left out
        self.assertTrue(all(a[0] < b[0] and a[1] > b[1] for a, b in zip(loss, loss[1:])))  # to the right and down
        self.assertTrue(all(a[1] < b[1] for a, b in zip(across, across[1:])))
        self.assertEqual((lines[4][0], lines[4][-1]), ((1, 0.01), (100, 1)))

    def test_what_was_measured_besides(self):
        def measured(step):
            results = [{"name": "books", "segments": 16, "perplexity": 50 - step, "recall_across": None}]
            results += [{"name": "far", "segments": segments, "recall_across": step / 100 / segments} for segments in (4, 1, 2)]
            return {"step": step, "evaluation": results, "gates": [[0.5], [step / 100]]}

        lines = [{"run": {"steps": 20}}, measured(0), *[{"step": step, "loss": 3} for step in range(1, 21)], measured(20)]
        picture = self.plot(self.write("log.jsonl", *lines))
        texts = self.texts(picture)
        for text in ("Perplexity of texts that were not trained on", "books", "Recall across segments, by length", "far", "layer 1"):
            self.assertIn(text, texts)
        loss, perplexity, recall, *gates = self.lines(picture)
        self.assertEqual((len(loss), len(perplexity), len(recall), list(map(len, gates))), (20, 2, 3, [2, 2]))
        self.assertGreater(perplexity[0][1], perplexity[1][1])  # down
        self.assertEqual(recall, sorted(recall))  # by segments; the last measurement alone
        self.assertNotEqual(recall[0][1], recall[2][1])
        other = self.write("other.jsonl", *lines)
        self.assertIn("other, books", self.texts(self.plot(self.folder / "log.jsonl", other)))
        self.fails(self.write("bare.jsonl", {"run": {}}), self.folder / "none.svg", says="bare.jsonl: is neither")

    def test_long_logs_stay_small_and_are_smoothed(self):
        noisy = [dict(log_line(step), loss=2 + (step % 2)) for step in range(1, 20_001)]
        file = self.write("log.jsonl", *noisy)
        picture = self.plot(file)
        self.assertLess((self.folder / "out.svg").stat().st_size, 400_000)
        heights = [y for _, y in self.lines(picture)[0]]
        self.assertLess(max(heights) - min(heights), 0.05)

    def test_logs_are_compared_by_name(self):
        a = self.write("linear.jsonl", *map(log_line, range(1, 11)))
        b = self.write("<delta>.jsonl", *map(log_line, range(1, 21)))
        texts = self.texts(self.plot(a, b))
        self.assertIn("linear", texts)
        self.assertIn("<delta>", texts)
        self.assertNotIn("layer 0", texts)

    def test_an_adaptation_is_a_log_of_each_phase(self):
        lines = [{"phase": "find", "heads": []}, *({"phase": "teach1", "step": step, "source_share": step / 10, "tokens_per_second": 9} for step in range(1, 6)),
                 *(dict(log_line(step), phase="train") for step in range(1, 11)), {"phase": "after", "measured": {}}]
        picture = self.plot(self.write("adapt.jsonl", *lines))
        self.assertIn("adapt teach1", self.texts(picture))
        self.assertEqual(sorted(map(len, self.lines(picture))), [5, 5, 9, 10, 10, 10])

    def test_a_log_that_is_being_written(self):
        file = self.write("log.jsonl", *map(log_line, range(1, 11)))
        with file.open("a") as log:
            log.write('{"step": 11, "lo')
        self.assertEqual(len(self.lines(self.plot(file))[0]), 10)

    def test_pass_keys_over_length(self):
        cells = [{"length": length, "depth": depth, "accuracy": 1 - depth * length / 2**20}
                 for length in (2**15, 2**17, 2**20) for depth in (0, 1)]
        picture = self.plot(self.write("passkey.json", {"results": cells}))
        texts = self.texts(picture)
        for text in ("32K", "128K", "1M", "depth 0", "depth 1", "100 %", "0 %"):
            self.assertIn(text, texts)
        flat, falling = self.lines(picture)
        self.assertEqual(len({y for _, y in flat}), 1)
        ticks = self.places(picture)
        self.assertAlmostEqual(ticks["128K"] - ticks["32K"], 2 / 5 * (ticks["1M"] - ticks["32K"]), delta=0.2)  # logarithmic

    def test_charts_of_ones_own(self):
        bars = {"title": "Perplexity & co", "categories": ["window", "infini"], "series": [{"y": [40, 20]}]}
        lines = {"title": "Recall", "series": [{"label": "a", "x": [1, 2, 3], "y": [1, None, 3]}]}
        picture = self.plot(self.write("charts.json", {"charts": [bars, lines]}))
        texts = self.texts(picture)
        for text in ("Perplexity & co", "window", "infini", "40", "20"):
            self.assertIn(text, texts)
        bars = [[tuple(map(float, point.split(","))) for point in bar.get("points").split()] for bar in picture[0].iter(SVG + "polygon")]
        heights = [max(y for _, y in bar) - min(y for _, y in bar) for bar in bars]
        self.assertAlmostEqual(heights[0], 2 * heights[1], delta=0.2)
        self.assertEqual(len(self.lines((picture[0], picture[1][1:]))[0]), 2)

    def test_numbers_that_are_none_do_no_harm(self):
        rows = [dict(log_line(step), loss=loss) for step, loss in ((1, 1e308), (2, -1e308), (3, 1), (3, 1))]
        self.plot(self.write("log.jsonl", *rows))
        self.plot(self.write("charts.json", {"charts": [{"series": [], "categories": []}, {"series": [{"x": [5], "y": [7]}]}]}))
        # Numbers that differ less than a tick apart can be told, and values so deep that Python does not read them.
        near = {"charts": [{"series": [{"x": [9e15, 9e15 + 1], "y": [1e16, 1e16 + 2]}]}, {"series": [{"x": [-1e99, 1e99], "y": [1e-300, 2e-300]}]}]}
        self.plot(self.write("near.json", near))
        deep = self.folder / "deep.json"
        deep.write_text('{"charts": [{"series": [{"x": [1, 2], "y": [1, 2], "z": ' + "[" * 200_000 + "]" * 200_000 + "}]}]}")
        self.fails(deep, self.folder / "none.svg", says="deep.json: is neither")
        file = self.folder / "infinite.jsonl"
        file.write_text('{"step": 1, "loss": 1e999}\n{"step": 2, "loss": 3}\n')
        self.assertEqual(self.lines(self.plot(file)), [[(2, 3)]])

    def test_failures(self):
        out = self.folder / "out.svg"
        good = self.write("log.jsonl", log_line(1))
        self.fails(good, says="OUT.svg")
        self.fails(self.folder / "none.jsonl", out, says="none.jsonl")
        for name, text in (("empty", ""), ("text", "hello"), ("list", "[1]"), ("deep", "[" * 100_000), ("other", '{"a": 1}')):
            file = self.folder / name
            file.write_text(text)
            self.fails(file, out, says=f"{name}: is neither")
        self.fails(self.write("bad", log_line(1), [1], log_line(2)), out, says="bad: line 2")
        self.fails(self.write("row", {"results": [{"length": 3}]}), out, says="row: a result")
        self.fails(self.write("chart", {"charts": [{"series": [{"x": [1], "y": [1, 2]}]}]}), out, says="chart: a series")
        self.assertFalse(out.exists())
        whole = good.read_text()
        self.fails(good, good, says=".svg")
        self.assertEqual(good.read_text(), whole)
        self.fails(good, self.folder / "no" / "out.svg", says="cannot write")


if __name__ == "__main__":
    skips.main()
