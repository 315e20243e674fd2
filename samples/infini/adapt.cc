#include "adapt.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "train_run.h"

namespace cli {
namespace {

struct Flag {
  const char *name, *field;
};
// Flags that --adapt adds, and those that it shares with training; what a field is, the library says.
constexpr Flag kOwn[] = {{"--heads-share", "share"},
                         {"--heads-least", "least"},
                         {"--adapt-layers", "layers"},
                         {"--find-sequences", "find_sequences"},
                         {"--carrier-steps", "carrier_steps"},
                         {"--carrier-rate", "carrier_rate"},
                         {"--carrier-size", "carrier_size"},
                         {"--teach-sequences", "teach_sequences"},
                         {"--teach-steps", "teach_steps"},
                         {"--teach-rate", "teach_rate"},
                         {"--nats", "nats"},
                         {"--virtual-length", "virtual_length"},
                         {"--text-ratio", "text_ratio"},
                         {"--borders", "borders"},
                         {"--evaluate-sequences", "evaluate_sequences"},
                         {"--held-out-tokens", "held_out_tokens"}},
               kShared[] = {{"--text", "texts"},
                            {"--held-out", "held_out"},
                            {"--train", "part"},
                            {"--type", "type"},
                            {"--steps", "steps"},
                            {"--muon-rate", "rate"},
                            {"--gate-rate", "gate_rate"},
                            {"--segment", "segment"},
                            {"--segments", "segments"},
                            {"--carry", "carry"},
                            {"--sinks", "sinks"},
                            {"--seed", "seed"},
                            {"--checkpoint", "checkpoint"},
                            {"--checkpoint-every", "checkpoint_every"}};

void show_step(LiveLine &line, const Json &report, double pace) {
  const std::string phase = report["phase"];
  const int64_t step = report["step"], steps = report["steps"];
  line.show(format("%s %lld/%lld  loss %s  share %s  across %s  inside %s  %.0f tokens/s  %s left", phase.c_str(),
                   static_cast<long long>(step), static_cast<long long>(steps), decimals(report["loss"]).c_str(),
                   decimals(report[phase == "carriers" ? "subject_share" : "source_share"], 3).c_str(),
                   decimals(report["recall_across"]).c_str(), decimals(report["recall_inside"]).c_str(),
                   report["tokens_per_second"].get<double>(),
                   time_text(pace * static_cast<double>(steps - step)).c_str()));
}

void print_result(const Json &info) {
  const Json &before = info["before"], &after = info["after"];
  if (info.contains("no_task")) print("text alone: " + info["no_task"].get<std::string>() + "\n");
  for (const Json &head : info.value("found", Json::array()))
    print(format("layer %lld head %lld looks at the source with %.2f\n",
                 static_cast<long long>(head["layer"].get<int64_t>()),
                 static_cast<long long>(head["head"].get<int64_t>()), head["weight"].get<double>()));
  print(format("%-22s %8s %8s\n", "", "before", "after"));
  print(format("%-22s %8s %8s\n", "held-out NLL, nats", decimals(before["nll"], 4).c_str(),
               decimals(after["nll"], 4).c_str()));
  for (size_t i = 0; i < after["recall"].size(); ++i) {
    const int64_t borders = info["borders"][i];
    print(format("%-22s %8s %8s\n",
                 format("recall over %lld border%s", static_cast<long long>(borders), borders == 1 ? "" : "s").c_str(),
                 decimals(before["recall"][i]).c_str(), decimals(after["recall"][i]).c_str()));
  }
  for (const auto &[phase, seconds] : info["phase_seconds"].items())
    print(format("%-22s %7.1f min %s tokens\n", phase.c_str(), seconds.get<double>() / 60,
                 grouped(info["phase_tokens"][phase].get<int64_t>()).c_str()));
}

}  // namespace

void AdaptFlags::add(CLI::App &command, const ModelArguments &arguments) {
  command_ = &command;
  arguments_ = &arguments;
  const char *const group = "Adapting a plain model";
  command
      .add_flag("--adapt", wanted_,
                "teach a plain model to use its memory: finds retrieval heads, teaches others to carry names "
                "to values and to find them, trains all")
      ->group(group);
  const Json table = json_of(infini_adaptation_settings_json);
  const auto row_of = [&](const char *field) {
    return *std::find_if(table.begin(), table.end(), [&](const Json &row) { return row["name"] == field; });
  };
  for (const Flag &flag : kOwn) flags_.add(command, row_of(flag.field), flag.name)->group(group);
  for (const Flag &flag : kShared) flags_.share(command, row_of(flag.field), flag.name);
}

void AdaptFlags::run() const {
  // What its phases are asked is decided before the first: the last begins after all others have done their work.
  for (const char *const name :
       {"--create", "--description", "--jsonl", "--recall", "--prose", "--evaluate", "--optimizer", "--rate",
        "--schedule", "--warmup", "--tokens", "--adapter", "--log-every", "--evaluate-every"})
    if (command_->get_option(name)->count() > 0)
      throw std::runtime_error(std::string(name) + " does not go with --adapt, which decides that itself");
  if (arguments_->model.empty()) throw std::runtime_error("MODEL: name the plain model that is adapted");
  if (command_->get_option("--held-out")->count() > 1) throw std::runtime_error("--held-out: with --adapt one book");
  Json settings = Json::object();
  flags_.write(settings);
  const auto text_of_flag = [&](const char *name) {
    const CLI::Option *const option = command_->get_option(name);
    return option->count() > 0 ? option->as<std::string>() : std::string();
  };
  TrainFiles files;
  files.out = text_of_flag("--out");
  files.log = text_of_flag("--log");
  if (settings.contains("checkpoint")) files.checkpoint = settings["checkpoint"].get<std::string>() + ".json";
  files.check_early(arguments_->model);
  if (!settings.contains("checkpoint")) settings["checkpoint"] = files.out + ".adapt";
  const std::string state = settings["checkpoint"];
  for (const std::string &path : {arguments_->model, files.out, files.log})
    if (path.starts_with(state + "."))
      throw std::runtime_error("--checkpoint: files of the adaptation are named like " + path + "; give another name");
  try {
    adapt(settings, files.out, files.log);
  } catch (const Cancelled &) {
    if (!std::filesystem::exists(state + ".json")) throw;
    throw std::runtime_error("interrupted; the same command goes on from " + state + ".json");
  } catch (const std::runtime_error &error) { throw std::runtime_error(flags_.of_flags(error.what(), "adapt")); }
}

void AdaptFlags::adapt(const Json &settings, const std::string &out, const std::string &log) const {
  const Options options = arguments_->flags.model_options();
  const std::string text = json_text(settings, "a path");
  const Adaptation adaptation = [&] {
    const Progress progress("opening");
    return make<Adaptation>(infini_adaptation_create, arguments_->model.c_str(), text.c_str(), options.get(),
                            progress.task());
  }();
  LiveLine line(true);
  double pace = 0;
  Json report = Json::object();
  for (infini_status status = INFINI_OK; status != INFINI_END;) {
    const bool trains = report.contains("step") && report["step"] < report["steps"];
    if (!trains) line.clear();
    const Progress progress(trains                      ? ""
                            : report.empty()            ? "finding retrieval heads"
                            : report["phase"] == "find" ? "measuring"
                                                        : "fitting or measuring");
    status = infini_adaptation_step(adaptation.get(), progress.task());
    if (status == INFINI_CANCELLED) {
      const Patience patience;
      check(infini_adaptation_save(adaptation.get(), nullptr));
    }
    if (status == INFINI_END) break;
    check(status);
    report = json_of(infini_adaptation_report_json, adaptation.get());
    if (report.contains("step")) {
      const double seconds = report["seconds"];
      pace = pace == 0 || !trains ? seconds : 0.9 * pace + 0.1 * seconds;
      show_step(line, report, pace);
    }
    if (!log.empty() && !report.contains("fitted")) {
      std::ofstream file(log, std::ios::app | std::ios::binary);
      file << json_line(report) << std::flush;
      if (!file) throw std::runtime_error("cannot write " + log);
    }
  }
  line.clear();
  check(infini_adaptation_write(adaptation.get(), out.c_str(), nullptr));
  check(infini_adaptation_discard(adaptation.get()));
  Json info = json_of(infini_adaptation_info_json, adaptation.get());
  if (!arguments_->json) return print_result(info);
  Json named = {{"file", out}};
  named.update(info);
  print_json(named);
}

}  // namespace cli
