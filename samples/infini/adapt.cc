#include "adapt.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "train_run.h"

namespace cli {
namespace {

Json read_json(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  const Json json = parse_json(std::string(std::istreambuf_iterator<char>(file), {}));
  if (!file || !json.is_object()) throw std::runtime_error(path + " is damaged; remove it to begin anew");
  return json;
}

std::string decimals(const Json &value, int count = 2) {
  return value.is_number() ? format("%.*f", count, value.get<double>()) : "-";
}

class Adaptation {
 public:
  Adaptation(const AdaptSettings &settings, const OptionFlags &flags, bool json)
      : settings_(settings), flags_(flags), json_(json) {}
  void run();

 private:
  // What the stages leave behind for each other, and for a run that goes on: one JSON file, and of each stage the
  // trainer's state and the model that came out.
  std::string state_file() const { return settings_.state + ".json"; }
  std::string stage_file(const std::string &stage, const char *kind) const {
    return settings_.state + "." + stage + kind;
  }
  std::vector<std::string> files_of(const std::string &stage) const;
  std::vector<std::string> stages() const;  // after "find", in order
  size_t done() const { return state_["done"].get<size_t>(); }

  Options options(bool plain) const;
  Model open(const std::string &path, bool plain) const;
  void choose_window(const Json &info);
  void resume();
  void find(const infini_model *model);
  void run_stage(const std::string &stage);
  // Steps of a trainer up to `count`, kept on the way.
  void steps(const std::string &stage, infini_trainer *trainer, int64_t count);
  void keep(const std::string &stage, infini_trainer *trainer);
  void log(Json line);
  void finish();

  AdaptSettings settings_;
  const OptionFlags &flags_;
  const bool json_;
  Json state_, info_;
  AdaptHeads heads_;
  LiveLine line_{true};
};

// The memory of a plain model is opened as the adapted one will have it.
Options Adaptation::options(bool plain) const {
  Options options = flags_.model_options();
  if (!plain) return options;
  check(infini_options_set_string(options.get(), "update", "linear"));  // which does not depend on how the past was cut
  if (settings_.segment == 0) return options;
  check(infini_options_set_int(options.get(), "segment", settings_.segment));
  check(infini_options_set_int(options.get(), "carry", settings_.carry));
  check(infini_options_set_int(options.get(), "sinks", settings_.sinks));
  return options;
}

Model Adaptation::open(const std::string &path, bool plain) const {
  const Progress progress("opening");
  return make<Model>(infini_model_open, path.c_str(), options(plain).get(), progress.task());
}

// Segments of 128 tokens behind three that are carried, if the context holds so many.
void Adaptation::choose_window(const Json &info) {
  const int64_t context = info["context"];
  if (settings_.segment == 0)
    settings_.segment = std::max<int64_t>(1, std::min<int64_t>(128, (context - settings_.sinks) / 4));
  if (settings_.carry < 0)
    settings_.carry = std::clamp<int64_t>(context - settings_.sinks - settings_.segment, 0, 3 * settings_.segment);
}

void Adaptation::log(Json line) {
  if (settings_.log.empty()) return;
  std::ofstream file(settings_.log, std::ios::app);
  file << json_line(line) << std::flush;
  if (!file) throw std::runtime_error("cannot write " + settings_.log);
}

void Adaptation::keep(const std::string &stage, infini_trainer *trainer) {
  const Patience patience;
  check(infini_trainer_save(trainer, stage_file(stage, ".trainer").c_str()));
  state_["stage"] = stage;  // of which there is a state: a file that is left of other runs is none
  write_file(state_file(), json_line(state_));
}

// Of which seconds and tokens are counted: teaching of all layers together.
std::string phase_of(const std::string &stage) { return stage.starts_with("teach") ? "teach" : stage; }

// The model that comes out of the last one is the result, and stands elsewhere.
std::vector<std::string> Adaptation::files_of(const std::string &stage) const {
  std::vector<std::string> files{stage_file(stage, ".trainer")};
  if (stage != "train") files.push_back(stage_file(stage, ".gguf"));
  return files;
}

// One name of a file each: what is taught is taught layer by layer.
std::vector<std::string> Adaptation::stages() const {
  std::vector<std::string> out;
  if (!heads_.carriers.empty()) out.push_back("carry");
  for (const Json &head : heads_.memory)
    if (const std::string stage = "teach" + std::to_string(head[0].get<int64_t>()); out.back() != stage)
      out.push_back(stage);
  out.push_back("train");
  return out;
}

void Adaptation::resume() {
  Json asked = {{"model", all_of(infini_model_info, open(settings_.model, true).get(), "fingerprint")},
                {"part", settings_.part},
                {"segment", settings_.segment},
                {"segments", settings_.segments},
                {"carry", settings_.carry},
                {"sinks", settings_.sinks},
                {"share", settings_.share},
                {"least", settings_.least},
                {"layers", settings_.layers},
                {"texts", settings_.texts},
                {"seed", settings_.seed},
                {"nats", settings_.nats},
                {"fold", settings_.fold},
                {"carry_size", settings_.carry_size},
                {"text_ratio", settings_.text_ratio},
                {"find_sequences", settings_.find_sequences},
                {"held_out", settings_.held_out},
                {"held_out_tokens", settings_.held_out_tokens},
                {"borders", settings_.borders},
                {"evaluate_sequences", settings_.evaluate_sequences}};
  if (!std::filesystem::exists(state_file())) {
    state_ = {{"asked", asked},
              {"seconds", {{"find", 0.0}, {"carry", 0.0}, {"teach", 0.0}, {"train", 0.0}}},
              {"tokens", {{"find", 0}, {"carry", 0}, {"teach", 0}, {"train", 0}}}};
    return;
  }
  state_ = read_json(state_file());
  std::string other;
  try {
    for (const auto &[setting, value] : asked.items())
      if (const Json was = state_["asked"].value(setting, Json()); was != value)
        other += " \"" + setting + "\" was " + was.dump() + " and is " + value.dump() + ";";
    if (other.empty())
      heads_ = {state_["carriers"], state_["heads"], state_["first"], state_["last"]},
      settings_.names = state_["names"];
  } catch (const Json::exception &) { throw std::runtime_error(state_file() + " is damaged; remove it to begin anew"); }
  if (!other.empty())
    throw std::runtime_error(state_file() + " was begun otherwise:" + other +
                             " give what was given then, or remove the file to begin anew");
}

// The greatest number of names, up to that of the settings, for which there is a task; 0, and why, where there is none.
int64_t names_of(const infini_model *model, const infini_options *options, int64_t most, std::string &why) {
  for (int64_t names = most; names > 0; names = names * 3 / 4) {
    const Json description = {{"training", {{"train", "gates"}}}, {"data", {{"type", "passkey"}, {"keys", names}}}};
    infini_trainer *trainer = nullptr;
    const infini_status status =
        infini_trainer_create(model, json_text(description, "a path").c_str(), options, &trainer);
    if (status == INFINI_INVALID_ARGUMENT) {
      why = infini_last_error();
      continue;
    }
    check(status);
    infini_trainer_free(trainer);
    return names;
  }
  return 0;
}

void Adaptation::find(const infini_model *model) {
  const Stopwatch watch;
  Json found;
  std::string why;
  // Tokenizers whose digits are not tokens of their own have no task: then there is text alone.
  if (const int64_t names = names_of(model, options(true).get(), settings_.names, why); names == 0) {
    state_["no_task"] = why;
  } else {
    settings_.names = names;
    check_room(settings_);
    const Json description = finding(settings_);
    const Trainer trainer =
        make<Trainer>(infini_trainer_create, model, json_text(description, "a path").c_str(), options(true).get());
    Progress progress("finding heads that retrieve");
    check(infini_trainer_find_heads(trainer.get(), json_text(description["data"], "a path").c_str(),
                                    static_cast<int>(settings_.find_sequences), 0, progress.task()));
    found = Json::parse(all_of(infini_trainer_heads, trainer.get()));
  }
  if (!found.is_null() && found["heads"][0]["weight"].get<double>() < settings_.least)
    state_["no_task"] = "no head looks at what is asked for with " + decimals(settings_.least) + " or more";
  heads_ = state_.contains("no_task") ? no_heads(info_, settings_) : choose_heads(found, info_, settings_);
  if (heads_.memory.empty() && !state_.contains("no_task"))
    state_["no_task"] = "the model has too few layers for heads that find each digit of a value";
  if (!found.is_null()) {
    Json best = Json::array();
    for (size_t i = 0; i < std::min<size_t>(10, found["heads"].size()); ++i) best.push_back(found["heads"][i]);
    state_["found"] = best;
    state_["full_attention_recall"] = found["recall"];
    state_["tokens"]["find"] = found["tokens"];
  }
  state_.update({{"carriers", heads_.carriers},
                 {"heads", heads_.memory},
                 {"first", heads_.first},
                 {"last", heads_.last},
                 {"names", settings_.names},
                 {"done", 0}});
  state_["seconds"]["find"] = watch.seconds();
  log({{"phase", "find"},
       {"found", found.is_null() ? Json() : found["heads"]},
       {"carriers", heads_.carriers},
       {"heads", heads_.memory},
       {"layers", {heads_.first, heads_.last}}});
}

void Adaptation::steps(const std::string &stage, infini_trainer *trainer, int64_t count) {
  const std::string phase = phase_of(stage);
  const Json now = Json::parse(all_of(infini_trainer_info_json, trainer));
  const int64_t before = state_["tokens"][phase].get<int64_t>() - now["tokens"].get<int64_t>();  // of the stages before
  double pace = 0;
  Refusals refused;
  for (int64_t step = now["steps"]; step < count;) {
    check(infini_trainer_step(trainer, nullptr));
    Json report = Json::parse(all_of(infini_trainer_report, trainer));
    const bool changed = report["step"] != step;
    step = report["step"];
    refused.hear(report);
    const double seconds = report["seconds"];
    state_["seconds"][phase] = state_["seconds"][phase].get<double>() + seconds;
    state_["tokens"][phase] = before + report["tokens"].get<int64_t>();
    if (report["source_share"].is_number()) state_["share"] = report["source_share"];
    pace = pace == 0 ? seconds : 0.9 * pace + 0.1 * seconds;
    report["phase"] = stage;
    log(report);
    line_.show(format("%s %lld/%lld  loss %s  share %s  across %s  inside %s  %.0f tokens/s  %s left", stage.c_str(),
                      static_cast<long long>(step), static_cast<long long>(count), decimals(report["loss"]).c_str(),
                      decimals(report[phase == "carry" ? "subject_share" : "source_share"], 3).c_str(),
                      decimals(report["recall_across"]).c_str(), decimals(report["recall_inside"]).c_str(),
                      report["tokens_per_second"].get<double>(),
                      time_text(pace * static_cast<double>(count - step)).c_str()));
    const bool stop = interrupted();
    if (stop || (changed && step % settings_.checkpoint_every == 0)) keep(stage, trainer);
    if (stop) throw Cancelled();
  }
  line_.clear();
}

// From the model that the stage before made.
void Adaptation::run_stage(const std::string &stage) {
  const std::vector<std::string> all = stages();
  const Model model = open(done() == 0 ? settings_.model : stage_file(all[done() - 1], ".gguf"), true);
  const bool carries = stage == "carry", trains = stage == "train";
  const int64_t layer = carries || trains ? -1 : std::stoll(stage.substr(5));
  const Json description = carries  ? carrying(settings_, heads_)
                           : trains ? training(settings_, heads_, info_)
                                    : teaching(settings_, heads_, layer);
  const Trainer trainer =
      make<Trainer>(infini_trainer_create, model.get(), json_text(description, "a path").c_str(), options(true).get());
  if (state_.value("stage", "") == stage && std::filesystem::exists(stage_file(stage, ".trainer"))) {
    check(infini_trainer_restore(trainer.get(), stage_file(stage, ".trainer").c_str()));
  } else if (layer >= 0 || (carries && settings_.carry_size > 0)) {
    const Stopwatch watch;
    const std::string phase = phase_of(stage);
    Progress progress("fitting heads of layer " +
                      std::to_string(carries ? heads_.carriers[0][0].get<int64_t>() : layer));
    check(infini_trainer_fit_heads(trainer.get(), settings_.nats, progress.task()));
    state_["seconds"][phase] = state_["seconds"][phase].get<double>() + watch.seconds();
    keep(stage, trainer.get());
  }
  steps(stage, trainer.get(), carries ? settings_.carry_steps : trains ? settings_.steps : settings_.teach_steps);
  if (trains) check(infini_trainer_write(trainer.get(), settings_.out.c_str(), settings_.type.c_str()));
  else check(infini_trainer_write(trainer.get(), stage_file(stage, ".gguf").c_str(), "f32"));
  if (trains) state_["gates"] = Json::parse(all_of(infini_trainer_info_json, trainer.get()))["gates"];
  state_["done"] = done() + 1;
  write_file(state_file(), json_line(state_));
}

void Adaptation::run() {
  info_ = Json::parse(all_of(infini_model_info_json, open(settings_.model, false).get()));
  choose_window(info_);
  resume();
  if (!state_.contains("before")) {
    const Model model = open(settings_.model, true);
    find(model.get());
    state_["before"] = measure_adapted(model.get(), flags_, settings_, !state_.contains("no_task"));
    log({{"phase", "before"}, {"measured", state_["before"]}});
    write_file(state_file(), json_line(state_));
  }
  const std::vector<std::string> all = stages();
  while (done() < all.size()) run_stage(all[done()]);
  const Model adapted = open(settings_.out, false);
  state_["after"] = measure_adapted(adapted.get(), flags_, settings_, !state_.contains("no_task"));
  log({{"phase", "after"}, {"measured", state_["after"]}});
  finish();
  std::filesystem::remove(state_file());
  for (const std::string &stage : all)
    for (const std::string &file : files_of(stage)) std::filesystem::remove(file);
}

void Adaptation::finish() {
  const Json &before = state_["before"], &after = state_["after"];
  if (json_) {
    Json out = {{"file", settings_.out}, {"borders", settings_.borders}};
    for (const char *key : {"found", "full_attention_recall", "no_task", "carriers", "heads", "first", "last", "share",
                            "before", "after", "gates"})
      if (state_.contains(key)) out[key] = state_[key];
    out["phase_seconds"] = state_["seconds"];
    out["phase_tokens"] = state_["tokens"];
    return print_json(out);
  }
  if (state_.contains("no_task")) print("text alone: " + state_["no_task"].get<std::string>() + "\n");
  for (const Json &head : state_.value("found", Json::array()))
    print(format("layer %lld head %lld looks at the source with %.2f\n",
                 static_cast<long long>(head["layer"].get<int64_t>()),
                 static_cast<long long>(head["head"].get<int64_t>()), head["weight"].get<double>()));
  print(format("%-22s %8s %8s\n", "", "before", "after"));
  print(format("%-22s %8s %8s\n", "held-out NLL, nats", decimals(before["nll"], 4).c_str(),
               decimals(after["nll"], 4).c_str()));
  for (size_t i = 0; i < after["recall"].size(); ++i)
    print(format("%-22s %8s %8s\n",
                 format("recall over %lld border%s", static_cast<long long>(settings_.borders[i]),
                        settings_.borders[i] == 1 ? "" : "s")
                     .c_str(),
                 decimals(before["recall"][i]).c_str(), decimals(after["recall"][i]).c_str()));
  for (const char *phase : {"find", "carry", "teach", "train"})
    print(format("%-22s %7.1f min %s tokens\n", phase, state_["seconds"][phase].get<double>() / 60,
                 grouped(state_["tokens"][phase].get<int64_t>()).c_str()));
}

}  // namespace

void AdaptFlags::add(CLI::App &command, const ModelArguments &arguments) {
  command_ = &command;
  arguments_ = &arguments;
  const char *const group = "Adapting a plain model";
  const auto own = [&](const char *name, auto &value, const char *help, double least = 0, double greatest = 1e9) {
    command.add_option(name, value, help)
        ->check(CLI::Range(least, greatest).description(""))
        ->capture_default_str()
        ->group(group);
  };
  command
      .add_flag("--adapt", wanted_,
                "teach a plain model to use its memory: finds the heads that retrieve, teaches others to carry names "
                "to values and to find them, trains all")
      ->group(group);
  own("--heads-share", settings_.share,
      "heads retrieve whose attention on what they look up is above this share of the greatest", 0, 1);
  own("--heads-least", settings_.least, "and above this; where none is, the model learns from plain text alone", 0, 1);
  own("--adapt-layers", settings_.layers,
      "first and last layer that are trained; else a quarter of them, from the lowest head on");
  own("--find-sequences", settings_.find_sequences, "sequences in which heads are looked for", 1);
  own("--carry-steps", settings_.carry_steps, "steps in which heads learn to look at the name that a digit belongs to",
      1);
  own("--carry-rate", settings_.carry_rate, "Muon's rate in them", 0, 10);
  own("--carry-size", settings_.carry_size,
      "length of what they write for a name, of that of the residual stream; 0: what the model's own values make of "
      "it");
  own("--teach-sequences", settings_.teach_sequences,
      "sequences that heads of the memory are taught with, layer by layer; what a layer is fed is kept, 2 bytes (f32: "
      "4) times the model's width a token, and made again by a run that goes on",
      1);
  own("--teach-steps", settings_.teach_steps, "steps of attention supervision, for each layer", 1);
  own("--teach-rate", settings_.teach_rate, "Muon's rate in them", 0, 10);
  own("--nats", settings_.nats, "what the memory adds to the logit of the digit that it finds, before all is trained",
      1e-6, 1e6);
  own("--fold", settings_.fold, "virtual length: filler counts as up to so many times as long", 1);
  own("--text-ratio", settings_.text_ratio, "share of sequences that are plain text, which keeps the perplexity", 0, 1);
  own("--borders", settings_.borders, "of segments, across which recall is measured", 1);
  own("--evaluate-sequences", settings_.evaluate_sequences, "sequences for each distance and number of names", 1);
  own("--held-out-tokens", settings_.held_out_tokens, "of the held-out text that are scored", 1);
}

void AdaptFlags::run() const {
  AdaptSettings s = settings_;
  const auto take = [&](const char *name, auto &value) {
    const CLI::Option *const option = command_->get_option(name);
    if (option->count() > 0) value = option->as<std::decay_t<decltype(value)>>();
  };
  s.model = arguments_->model;
  take("--out", s.out);
  take("--type", s.type);
  take("--log", s.log);
  take("--checkpoint", s.state);
  take("--checkpoint-every", s.checkpoint_every);
  take("--text", s.texts);
  take("--held-out", s.held_out);
  take("--train", s.part);
  take("--steps", s.steps);
  take("--muon-rate", s.rate);
  take("--gate-rate", s.gate_rate);
  take("--segment", s.segment);
  take("--segments", s.segments);
  take("--carry", s.carry);
  take("--sinks", s.sinks);
  take("--seed", s.seed);
  // What its stages are asked is decided before the first: the last begins after all others have done their work.
  for (const char *const name :
       {"--create", "--description", "--jsonl", "--recall", "--prose", "--evaluate", "--optimizer", "--rate",
        "--schedule", "--warmup", "--tokens", "--adapter", "--log-every", "--evaluate-every"})
    if (command_->get_option(name)->count() > 0)
      throw std::runtime_error(std::string(name) + " does not go with --adapt, which decides that itself");
  if (s.model.empty()) throw std::runtime_error("MODEL: name the plain model that is adapted");
  TrainFiles files;
  files.out = s.out;
  files.log = s.log;
  if (!s.state.empty()) files.checkpoint = s.state + ".json";
  files.check_early(s.model);
  if (const std::set<std::string> parts = {"attention", "gates", "lora", "all"}; !parts.contains(s.part))
    throw std::runtime_error("--train: with --adapt attention, gates, lora or all, not " + s.part);
  if (!(s.rate > 0 && s.rate <= 10 && s.gate_rate >= 0 && s.gate_rate <= 10))
    throw std::runtime_error("--muon-rate and --gate-rate are from 0 to 10");
  if (command_->get_option("--held-out")->count() > 1) throw std::runtime_error("--held-out: with --adapt one book");
  if (s.texts.empty()) throw std::runtime_error("--text: name books to train on");
  if (!s.layers.empty() && s.layers.size() != 2)
    throw std::runtime_error("--adapt-layers takes the first and the last");
  if (s.steps < 1 || s.segments < 2) throw std::runtime_error("--steps is 1 at least, and --segments 2");
  if (s.state.empty()) s.state = s.out + ".adapt";
  for (const std::string &path : {s.model, s.out, s.log})
    for (const char *const part : {".json", ".carry.", ".teach", ".train."})
      if (path.starts_with(s.state + part))
        throw std::runtime_error("--checkpoint: files of the adaptation are named like " + path +
                                 "; give another name");
  Adaptation adaptation(s, arguments_->flags, arguments_->json);
  try {
    adaptation.run();
  } catch (const Cancelled &) {
    if (!std::filesystem::exists(s.state + ".json")) throw;
    throw std::runtime_error("interrupted; the same command goes on from " + s.state + ".json");
  }
}

}  // namespace cli
