#!/usr/bin/env python3
"""Pictures of training and of measurements, drawn by gnuplot from what the `infini` command writes.

    tests/bench/plot.py LOG.jsonl... OUT.svg        logs of `infini train --log`: loss, recall, gates and speed over steps;
                                                    of several logs, all but the gates compared
    tests/bench/plot.py PASSKEY.json... OUT.svg     what `infini passkey --json` printed: accuracy over length
    tests/bench/plot.py CHARTS.json OUT.svg         {"charts": [...]}, each with "title", "x_label", "y_label", "percent",
                                                    "powers_of_two" (x), "series": [{"label", "x": [...], "y": [...]}], or
                                                    bars: "categories": [...], "series": [{"label", "y": [...]}]
"""
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys

WIDTH, HEIGHT = 760, 270  # of a chart
MOST_POINTS = 1200  # of a line; a screen shows no more
# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = ["0072b2", "d55e00", "009e73", "cc79a7", "e69f00", "56b4e9", "555555"]


class Refused(Exception):
    """A file that cannot be drawn; the message names it."""


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e100  # false for NaN


def series(points, label="", colour=0, dashed=False, noisy=False):
    return {"label": label, "points": points, "colour": colour, "dashed": dashed, "noisy": noisy}


def chart(title, x_label="", y_label="", **more):
    return {"title": title, "x_label": x_label, "y_label": y_label, "series": [], **more}


# --- logs of training

COLUMNS = ["loss", "recall_across", "exact_across", "recall_inside", "source_share", "subject_share", "tokens_per_second"]


class Log:
    """A log of training, column by column; what a line does not have is left out."""

    def __init__(self, name):
        self.name, self.heads, self.gates = name, 0, []  # gates: points of each head; heads of a layer, 0: one list
        self.columns = {key: [] for key in COLUMNS}
        self.perplexity, self.held_out = {}, {}  # of what was examined: over steps; over segments, the last time

    def add(self, line):
        step = line["step"]
        for key, points in self.columns.items():
            if is_number(line.get(key)):
                points.append((step, line[key]))
        if isinstance(line.get("evaluation"), list):
            self.held_out = {}
            for result in (r for r in line["evaluation"] if isinstance(r, dict)):
                of = str(result.get("name", ""))
                if is_number(result.get("perplexity")):
                    self.perplexity.setdefault(of, []).append((step, result["perplexity"]))
                if is_number(result.get("recall_across")) and is_number(result.get("segments")):
                    self.held_out.setdefault(of, []).append((result["segments"], result["recall_across"]))
        if isinstance(line.get("gates"), list):
            layers = [g if isinstance(g, list) else [g] for g in line["gates"]]
            if any(isinstance(g, list) for g in line["gates"]):
                self.heads = max(self.heads, *map(len, layers))
            for at, gate in enumerate(g for layer in layers for g in layer):
                if at == len(self.gates):
                    self.gates.append([])
                if is_number(gate):
                    self.gates[at].append((step, gate))


def parsed(text):
    """The JSON value, or None: also for values so deep that Python gives up."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_logs(path, text):
    """The logs of a file, one a phase where lines have a "phase", as those of --adapt do; [] where it is no log. The first
    line may say what is run, and what an adaptation says between its phases has no step."""
    logs, phase = [], None
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        value = parsed(line)
        if isinstance(value, dict) and not logs and "run" in value:
            continue
        has_phase = isinstance(value, dict) and isinstance(value.get("phase"), str)
        if has_phase and "step" not in value:
            continue
        if not isinstance(value, dict) or not is_number(value.get("step")):
            if not logs:
                return []
            if value is None and number == len(lines):
                break  # a killed training left it unfinished
            raise Refused(f'{path}: line {number} is not an object with a "step"')
        if not logs or (has_phase and value["phase"] != phase):
            phase = value["phase"] if has_phase else phase
            logs.append(Log(path.stem + (f" {phase}" if has_phase else "")))
        logs[-1].add(value)
    return logs


def charts_of_logs(logs):
    loss = chart("Loss", "step", "nats a token")
    perplexity = chart("Perplexity of texts that were not trained on", "step")
    recall = chart("Recall of named values, across segments and inside", "step", "share", unit=True)
    held_out = chart("Recall across segments, by length", "segments of a sequence", "share of digits", unit=True,
                     powers_of_two=True)
    gates = chart("Gates: the memory's weight, by layer", "step", "sigmoid(beta)", unit=True)
    speed = chart("Speed", "step", "tokens a second")
    alone = len(logs) == 1
    for i, log in enumerate(logs):
        def add(to, column, label, colour=i, dashed=False):
            if log.columns[column]:
                to["series"].append(series(log.columns[column], label, colour, dashed, noisy=True))

        add(loss, "loss", "" if alone else log.name)
        add(recall, "recall_across", "digits across" if alone else log.name)
        if alone:
            add(recall, "exact_across", "answers across", 2)
        add(recall, "recall_inside", "digits inside" if alone else "", 1 if alone else i, True)
        if alone or not log.columns["recall_across"]:  # of several, where there is nothing else to see
            add(recall, "source_share", "retrieval on source" if alone else log.name, 3 if alone else i, True)
            add(recall, "subject_share", "local attention on name" if alone else log.name, 4 if alone else i, True)
        add(speed, "tokens_per_second", "" if alone else log.name)
        for examined, to in ((log.perplexity, perplexity), (log.held_out, held_out)):
            for of, points in sorted(examined.items()):
                to["series"].append(series(sorted(points), of if alone else f"{log.name}, {of}", len(to["series"])))
        for at, points in enumerate(log.gates if alone else []):
            layer = at // log.heads if log.heads else 0
            gates["series"].append(series(points, f"layer {layer}" if log.heads and at % log.heads == 0 else "", layer))
    if not alone and recall["series"]:
        recall["title"] = "Recall of named values across segments (dashed: inside one)"
    if gates["series"] and not logs[0].heads:
        gates["title"] = "Gates: the memory's weight"
    return [c for c in (loss, perplexity, recall, held_out, gates, speed) if c["series"]]


# --- what passkey printed, and charts of one's own

def add_passkey(path, results, alone, to):
    depths = {}
    for row in results:
        if not isinstance(row, dict) or not is_number(row.get("length")) or not is_number(row.get("accuracy")):
            raise Refused(f'{path}: a result has no "length" and "accuracy"')
        depth = row["depth"] if is_number(row.get("depth")) else 0
        depths.setdefault(depth, []).append((row["length"], 100 * row["accuracy"]))
    for depth, points in sorted(depths.items()):
        label = f"depth {depth:g}" if alone else f"{path.stem}, depth {depth:g}"
        to["series"].append(series(sorted(points), label, len(to["series"])))


def described(path, told):
    if not isinstance(told, dict) or not isinstance(told.get("series"), list):
        raise Refused(f'{path}: a chart needs "series", a list')
    out = chart(*(str(told.get(key, "")) for key in ("title", "x_label", "y_label")),
                powers_of_two=told.get("powers_of_two") is True, percent=told.get("percent") is True)
    bars = isinstance(told.get("categories"), list) and told["categories"]
    if bars:
        out["categories"] = [str(category) for category in told["categories"]]
    for line in told["series"]:
        line = line if isinstance(line, dict) else {}
        y = line.get("y")
        x = range(len(bars)) if bars else line.get("x")
        if not isinstance(y, list) or (not bars and (not isinstance(x, list) or len(x) != len(y))):
            raise Refused(f'{path}: a series needs "y", a list of numbers' + ("" if bars else ', and "x", a list as long'))
        points = [(a, b) for a, b in zip(x, y) if is_number(a) and is_number(b)]  # null: a gap
        out["series"].append(series(points, str(line.get("label", "")), len(out["series"])))
    return out


def charts_of(paths):
    logs, charts = [], []
    passkey = chart("Pass keys found", "tokens", powers_of_two=True, percent=True)
    for path in map(pathlib.Path, paths):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise Refused(f"cannot open {path}: {error.strerror}") from None
        of_file = read_logs(path, text)
        logs += of_file
        if of_file:
            continue
        value = parsed(text)
        if isinstance(value, dict) and isinstance(value.get("results"), list):
            add_passkey(path, value["results"], len(paths) == 1, passkey)
        elif isinstance(value, dict) and isinstance(value.get("charts"), list):
            charts += [described(path, told) for told in value["charts"]]
        else:
            raise Refused(f"{path}: is neither a log of training, nor results of passkey, nor charts")
    charts = (charts_of_logs(logs) if logs else []) + charts + ([passkey] if passkey["series"] else [])
    if not charts:
        raise Refused(f"{paths[0]}: holds nothing that can be drawn")
    return charts


# --- gnuplot

def thinned(points):
    """Each point the mean of a stretch of neighbours."""
    if len(points) <= MOST_POINTS:
        return points
    ends = [i * len(points) // MOST_POINTS for i in range(MOST_POINTS + 1)]
    return [tuple(sum(column) / (end - begin) for column in zip(*points[begin:end])) for begin, end in zip(ends, ends[1:])]


def running_mean(points):
    reach = len(points) // 60
    total = [0]
    for _, y in points:
        total.append(total[-1] + y)
    spans = ((max(0, i - reach), min(len(points), i + reach + 1)) for i in range(len(points)))
    return [(point[0], (total[end] - total[begin]) / (end - begin)) for point, (begin, end) in zip(points, spans)]


def curves(line):
    """What is drawn of a series: (points, whether pale)."""
    if line["noisy"] and len(line["points"]) >= 120:
        return [(thinned(line["points"]), True), (thinned(running_mean(line["points"])), False)]
    return [(thinned(line["points"]), False)]


def quoted(text):
    """A gnuplot string; text is taken as it is ("noenhanced"), so only what ends a string or a line matters."""
    return '"' + re.sub(r"[\x00-\x1f]", " ", text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def length_text(tokens):
    for unit, name in ((2**20, "M"), (1024, "K")):
        if tokens >= unit and tokens % unit == 0:
            return f"{tokens // unit:.0f}{name}"
    return f"{tokens:g}"


def limits(values, margin):
    least, greatest = min(values, default=0), max(values, default=1)
    if greatest - least <= 1e-9 * max(abs(least), abs(greatest)):  # what differs less is one number
        room = 0.5 + 0.01 * abs(least)
        return least - room, greatest + room
    return least, greatest + margin * (greatest - least)


def script_of(drawn, number):
    """gnuplot commands for one chart; its data are the blocks $d<number>_<i>."""
    bars = drawn.get("categories")
    logarithmic = drawn.get("powers_of_two")
    if logarithmic:
        for line in drawn["series"]:
            line["points"] = [p for p in line["points"] if p[0] > 0]
    points = [point for line in drawn["series"] for point in line["points"]]
    data, plots = [], []

    def block(rows):
        name = f"$d{number}_{len(data)}"
        data.append(f"{name} << EOD\n" + "".join(" ".join(f"{v:.12g}" for v in row) + "\n" for row in rows) + "EOD\n")
        return name

    # A few labels stand in a row under the title, more beside the chart.
    labels = sum(bool(line["label"]) for line in drawn["series"])
    key = "outside right top vertical" if labels > 3 else "at graph -0.01,1.13 left horizontal maxrows 1"
    out = ["reset", "set border 1 lc rgb '#888888'", "set tics nomirror scale 0.4", "set ytics scale 0",
           "set grid ytics lt 1 lc rgb '#e4e4e4'", "unset mxtics", "set tmargin 4", "set key Left reverse noenhanced samplen 2 " + key,
           f"set label 1 {quoted(drawn['title'])} at graph 0,1.24 left noenhanced font ',14'",
           f"set xlabel {quoted(drawn['x_label'])} noenhanced", f"set ylabel {quoted(drawn['y_label'])} noenhanced",
           "set lmargin 11", *([] if labels > 3 else ["set rmargin 3"]), "set format x '%.6g'"]
    y_least, y_greatest = limits([y for _, y in points] + ([0] if bars else []), 0.15 if bars else 0.06)
    if drawn.get("percent"):
        y_least, y_greatest = 0, 100
        out.append("set format y '%.0f %%'")
    elif drawn.get("unit"):
        y_least, y_greatest = 0, 1
    else:
        out.append(f"set format y '{'%.4s%c' if y_greatest >= 1e6 else '%.6g'}'")
    out.append(f"set yrange [{y_least:.12g}:{y_greatest:.12g}]")
    if bars:
        width = 0.8 / max(1, len(drawn["series"]))
        out += [f"set xrange [-0.5:{len(bars) - 0.5}]", "set style fill solid noborder", "set xtics scale 0",
                "set xtics noenhanced (" + ", ".join(f"{quoted(name)} {i}" for i, name in enumerate(bars)) + ")"]
        for i, line in enumerate(drawn["series"]):
            middle = (i - (len(drawn["series"]) - 1) / 2) * width
            name = block([(x + middle, y, width * 0.92) for x, y in line["points"] if x < len(bars)])
            plots.append(f"{name} using 1:2:3 with boxes lc rgb '#{COLOURS[line['colour'] % len(COLOURS)]}' "
                         + (f"title {quoted(line['label'])}" if line["label"] else "notitle"))
            if len(bars) * len(drawn["series"]) <= 24:
                plots.append(f"{name} using 1:2:(sprintf('%.4g', $2)) with labels offset 0,0.6 font ',9' notitle")
    else:
        ticks = sorted({x for x, _ in points})
        if logarithmic:
            out += ["set logscale x 2", "set xtics (" + ", ".join(f"{quoted(length_text(x))} {x:.12g}" for x in ticks) + ")"]
            least, greatest = (ticks[0] / 1.2, ticks[-1] * 1.2) if ticks else (1, 2)
        else:
            least, greatest = limits(ticks, 0)
        out.append(f"set xrange [{least:.12g}:{greatest:.12g}]")
        for line in drawn["series"]:
            colour = COLOURS[line["colour"] % len(COLOURS)]
            for stretch, pale in curves(line):
                style = "linespoints pt 7 ps 0.4" if len(stretch) <= 40 and not pale else "lines"
                titled = line["label"] and not pale
                plots.append(f"{block(stretch)} using 1:2 with {style} lw {0.8 if pale else 1.8} "
                             f"dt {'(8,5)' if line['dashed'] else '1'} lc rgb '#{'b0' if pale else ''}{colour}' "
                             + (f"title {quoted(line['label'])}" if titled else "notitle"))
    # What has no points has no plot either: gnuplot refuses empty blocks.
    plots = [p for p in plots if not any(d.startswith(p.split()[0] + " << EOD\nEOD") for d in data)]
    out.append("plot " + (", \\\n  ".join(plots) if plots else "NaN notitle"))
    return "".join(data) + "\n".join(out) + "\n"


def draw(charts, out):
    """Writes the charts one below the other as SVG."""
    out = pathlib.Path(out)
    gnuplot = shutil.which("gnuplot")
    if not gnuplot:
        raise Refused("pictures are drawn by gnuplot, which is not installed: apt-get install gnuplot-nox")
    script = (f"set terminal svg size {WIDTH},{HEIGHT * len(charts)} font 'DejaVu Sans,11' background rgb 'white'\n"
              f"set multiplot layout {len(charts)},1\n" + "".join(script_of(c, i) for i, c in enumerate(charts)) + "unset multiplot\n")
    ran = subprocess.run([gnuplot, "-"], input=script, capture_output=True, text=True, encoding="utf-8", check=False)
    if ran.returncode != 0 or not ran.stdout.rstrip().endswith("</svg>"):
        raise Refused(f"gnuplot failed: {ran.stderr.strip()}")
    try:
        out.write_text(ran.stdout, encoding="utf-8")
    except OSError as error:
        raise Refused(f"cannot write {out}: {error.strerror}") from None


def main(arguments):
    if len(arguments) < 2 or {"-h", "--help"} & set(arguments):
        sys.exit(__doc__)
    *files, out = arguments
    if not out.endswith(".svg"):
        sys.exit(f"the last file is the picture that is written, and {out} does not end in .svg")
    try:
        draw(charts_of(files), out)
    except Refused as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
