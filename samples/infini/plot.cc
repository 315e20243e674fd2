#include "plot.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "chart.h"
#include "common.h"

namespace cli {
namespace {

// A log of training, column by column; what a line does not have is left out.
struct Log {
  std::string name;
  Series loss, across, exact, inside, source, subject, speed;
  std::vector<std::vector<std::pair<double, double>>> gates;  // of each head
  size_t heads = 0;                                           // in a layer; 0: gates come in one list
  std::map<std::string, Series> perplexity;                   // of what was examined, over steps
  std::map<std::string, Series> held_out;  // recall over segments of a sequence, in the last examination

  void add_evaluation(double step, const Json &results) {
    held_out.clear();
    for (const Json &result : results) {
      const auto number = [&](const char *key, double &value) {
        if (!result.is_object() || !result.contains(key) || !result[key].is_number()) return false;
        value = result[key].get<double>();
        return true;
      };
      const bool has_name = result.is_object() && result.contains("name") && result["name"].is_string();
      const std::string of = has_name ? result["name"].get<std::string>() : "";
      double value = 0, segments = 0;
      if (number("perplexity", value)) perplexity[of].points.emplace_back(step, value);
      if (number("recall_across", value) && number("segments", segments))
        held_out[of].points.emplace_back(segments, value);
    }
    for (auto &[of, series] : held_out) std::sort(series.points.begin(), series.points.end());
  }

  void add(const Json &line) {
    const double step = line["step"].get<double>();
    const auto take = [&](const char *key, Series &series) {
      if (line.contains(key) && line[key].is_number()) series.points.emplace_back(step, line[key].get<double>());
    };
    take("loss", loss);
    take("recall_across", across);
    take("exact_across", exact);
    take("recall_inside", inside);
    take("source_share", source);
    take("subject_share", subject);
    take("tokens_per_second", speed);
    if (line.contains("evaluation") && line["evaluation"].is_array()) add_evaluation(step, line["evaluation"]);
    if (!line.contains("gates") || !line["gates"].is_array()) return;
    size_t at = 0;
    const auto add_gate = [&](const Json &gate) {
      if (at == gates.size()) gates.emplace_back();
      if (gate.is_number()) gates[at].emplace_back(step, gate.get<double>());
      ++at;
    };
    for (const Json &gate : line["gates"]) {
      if (!gate.is_array()) {
        add_gate(gate);
        continue;
      }
      heads = std::max(heads, gate.size());
      for (const Json &head : gate) add_gate(head);
    }
  }
};

struct Input {
  std::string path, name;
  std::string text;

  [[noreturn]] void refuse(const std::string &why) const { throw std::runtime_error(path + ": " + why); }
};

Input read(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
  Input input{path, std::filesystem::path(path).stem().string(), {std::istreambuf_iterator<char>(file), {}}};
  if (file.bad()) input.refuse("cannot be read");
  return input;
}

// A log if every line is an object with a step; the first may say what is run instead. That of --adapt has a phase in every
// line, each with steps of its own, and is one log a phase; what it says between them has no step.
bool read_log(const Input &input, std::vector<Log> &logs) {
  std::vector<Log> phases;
  std::string phase;
  std::istringstream lines(input.text);
  size_t number = 0, known = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const Json json = parse_json(line);
    if (known == 0 && json.is_object() && json.contains("run")) continue;
    const bool has_phase = json.is_object() && json.contains("phase") && json["phase"].is_string();
    if (has_phase && !json.contains("step")) continue;
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number()) {
      // A line that a killed training left unfinished ends the log.
      if (known > 0 && json.is_discarded() && lines.eof()) break;
      if (known > 0) input.refuse("line " + std::to_string(number) + " is not an object with a \"step\"");
      return false;
    }
    ++known;
    if (phases.empty() || (has_phase && json["phase"] != phase)) {
      if (has_phase) phase = json["phase"].get<std::string>();
      phases.emplace_back().name = has_phase ? input.name + " " + phase : input.name;
    }
    phases.back().add(json);
  }
  std::move(phases.begin(), phases.end(), std::back_inserter(logs));
  return known > 0;
}

Series named(Series series, const std::string &label, int colour, bool dashed = false) {
  series.label = label;
  series.colour = colour;
  series.dashed = dashed;
  series.noisy = true;
  return series;
}

std::vector<Chart> charts_of(const std::vector<Log> &logs) {
  Chart loss{.title = "Loss", .x_label = "step", .y_label = "nats a token", .series = {}, .categories = {}};
  Chart recall{.title = "Recall of named values, across segments and inside",
               .x_label = "step",
               .y_label = "share",
               .series = {},
               .categories = {},
               .unit = true};
  Chart speed{.title = "Speed", .x_label = "step", .y_label = "tokens a second", .series = {}, .categories = {}};
  Chart gates{.title = "Gates: the memory's weight, by layer",
              .x_label = "step",
              .y_label = "sigmoid(beta)",
              .series = {},
              .categories = {},
              .unit = true};
  Chart perplexity{.title = "Perplexity of texts that were not trained on",
                   .x_label = "step",
                   .y_label = "",
                   .series = {},
                   .categories = {}};
  Chart held_out{.title = "Recall across segments, by length",
                 .x_label = "segments of a sequence",
                 .y_label = "share of digits",
                 .series = {},
                 .categories = {},
                 .powers_of_two = true,
                 .unit = true};
  for (size_t i = 0; i < logs.size(); ++i) {
    const Log &log = logs[i];
    const bool alone = logs.size() == 1;
    const int colour = static_cast<int>(i);
    if (!log.loss.points.empty()) loss.series.push_back(named(log.loss, alone ? "" : log.name, colour));
    if (!log.across.points.empty())
      recall.series.push_back(named(log.across, alone ? "digits across" : log.name, colour));
    if (alone && !log.exact.points.empty()) recall.series.push_back(named(log.exact, "answers across", 2));
    if (!log.inside.points.empty())
      recall.series.push_back(named(log.inside, alone ? "digits inside" : "", alone ? 1 : colour, true));
    const bool attends = alone || log.across.points.empty();  // of several, where there is nothing else to see
    if (attends && !log.source.points.empty())
      recall.series.push_back(named(log.source, alone ? "retrieval on source" : log.name, alone ? 3 : colour, true));
    if (attends && !log.subject.points.empty())
      recall.series.push_back(
          named(log.subject, alone ? "local attention on name" : log.name, alone ? 4 : colour, true));
    if (!log.speed.points.empty()) speed.series.push_back(named(log.speed, alone ? "" : log.name, colour));
    const auto add_examined = [&](const std::map<std::string, Series> &by_name, Chart &chart) {
      for (const auto &[of, series] : by_name)
        chart.series.push_back({.label = (alone ? "" : log.name + ", ") + of,
                                .points = series.points,
                                .colour = static_cast<int>(chart.series.size())});
    };
    add_examined(log.perplexity, perplexity);
    add_examined(log.held_out, held_out);
    for (size_t gate = 0; alone && gate < log.gates.size(); ++gate) {
      const size_t layer = log.heads > 0 ? gate / log.heads : 0;
      gates.series.push_back({.label = log.heads > 0 && gate % log.heads == 0 ? format("layer %zu", layer) : "",
                              .points = log.gates[gate],
                              .colour = static_cast<int>(layer)});
    }
  }
  if (logs.size() > 1 && !recall.series.empty())
    recall.title = "Recall of named values across segments (dashed: inside one)";
  if (!gates.series.empty() && logs[0].heads == 0) gates.title = "Gates: the memory's weight";
  std::vector<Chart> charts;
  for (Chart *chart : {&loss, &perplexity, &recall, &held_out, &gates, &speed})
    if (!chart->series.empty()) charts.push_back(std::move(*chart));
  return charts;
}

// Output of passkey: appended, so that several files share a chart.
void add_passkey(const Input &input, const Json &json, bool alone, Chart &chart) {
  std::map<double, Series> by_depth;
  for (const Json &row : json["results"]) {
    if (!row.is_object() || !row.contains("length") || !row["length"].is_number() || !row.contains("accuracy") ||
        !row["accuracy"].is_number())
      input.refuse("a result has no \"length\" and \"accuracy\"");
    const double depth = row.value("depth", Json(0.0)).is_number() ? row.value("depth", 0.0) : 0.0;
    by_depth[depth].points.emplace_back(row["length"].get<double>(), 100 * row["accuracy"].get<double>());
  }
  for (auto &[depth, series] : by_depth) {
    std::sort(series.points.begin(), series.points.end());
    series.label = (alone ? "" : input.name + ", ") + format("depth %g", depth);
    series.colour = static_cast<int>(chart.series.size());
    chart.series.push_back(std::move(series));
  }
}

Chart described(const Input &input, const Json &json) {
  if (!json.is_object() || !json.contains("series") || !json["series"].is_array())
    input.refuse("a chart needs \"series\", a list");
  const auto text = [&](const Json &from, const char *key) {
    return from.is_object() && from.contains(key) && from[key].is_string() ? from[key].get<std::string>()
                                                                           : std::string();
  };
  const auto is_set = [&](const char *key) { return json.contains(key) && json[key] == true; };
  Chart chart{.title = text(json, "title"),
              .x_label = text(json, "x_label"),
              .y_label = text(json, "y_label"),
              .series = {},
              .categories = {},
              .powers_of_two = is_set("powers_of_two"),
              .percent = is_set("percent")};
  if (json.contains("categories") && json["categories"].is_array())
    for (const Json &category : json["categories"])
      chart.categories.push_back(category.is_string() ? category.get<std::string>() : category.dump());
  for (const Json &from : json["series"]) {
    Series series{.label = text(from, "label"), .points = {}, .colour = static_cast<int>(chart.series.size())};
    const Json y = from.is_object() ? from.value("y", Json()) : Json(),
               x = from.is_object() ? from.value("x", Json()) : Json();
    if (!y.is_array() || (chart.categories.empty() && (!x.is_array() || x.size() != y.size())))
      input.refuse("a series needs \"y\", a list of numbers" +
                   std::string(chart.categories.empty() ? ", and \"x\", a list as long" : ""));
    for (size_t i = 0; i < y.size(); ++i) {
      const Json &at = chart.categories.empty() ? x[i] : y[i];
      if (!y[i].is_number() || !at.is_number()) continue;  // null: a gap
      series.points.emplace_back(chart.categories.empty() ? at.get<double>() : static_cast<double>(i),
                                 y[i].get<double>());
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

}  // namespace

void plot(const std::vector<std::string> &files, const std::string &out) {
  if (!out.ends_with(".svg"))
    throw std::runtime_error("--plot: the last file is the picture that is written, and " + out +
                             " does not end in .svg");
  std::vector<Log> logs;
  std::vector<Chart> charts;
  Chart passkey{.title = "Pass keys found",
                .x_label = "tokens",
                .y_label = "",
                .series = {},
                .categories = {},
                .powers_of_two = true,
                .percent = true};
  for (const std::string &path : files) {
    const Input input = read(path);
    if (read_log(input, logs)) continue;
    const Json json = parse_json(input.text);
    if (json.is_object() && json.contains("results") && json["results"].is_array())
      add_passkey(input, json, files.size() == 1, passkey);
    else if (json.is_object() && json.contains("charts") && json["charts"].is_array())
      for (const Json &chart : json["charts"]) charts.push_back(described(input, chart));
    else input.refuse("is neither a log of training, nor results of passkey, nor charts");
  }
  if (!logs.empty()) {
    const std::vector<Chart> of_logs = charts_of(logs);
    charts.insert(charts.begin(), of_logs.begin(), of_logs.end());
  }
  if (!passkey.series.empty()) charts.push_back(std::move(passkey));
  if (charts.empty()) throw std::runtime_error(files[0] + ": holds nothing that can be drawn");
  write_file(out, svg(charts));
}

}  // namespace cli
