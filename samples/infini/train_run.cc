#include "train_run.h"

#include <cmath>
#include <filesystem>

namespace cli {
namespace {

bool all_shut(const Json &gates) {
  for (const Json &layer : gates)
    for (const Json &gate : layer)
      if (gate != 0) return false;
  return true;
}

std::string recall_text(const Json &seen) {
  const auto share = [&](const char *of) {
    return decimals(seen[std::string("recall_") + of], 2) + " of digits, " +
           decimals(seen[std::string("exact_") + of], 2) + " of answers ";
  };
  return share("across") + "across segments; " + share("inside") + "inside one";
}

bool is_text(const Json &data) {
  const Json type = data.is_object() ? data.value("type", Json()) : Json();
  return type == "text" || type == "jsonl";
}

// Whether both paths, of files that may not be there yet, are of one file.
bool same_file(const std::string &a, const std::string &b) {
  std::error_code error;
  if (b.empty()) return false;
  if (std::filesystem::equivalent(a, b, error)) return true;
  const auto one = std::filesystem::weakly_canonical(std::filesystem::absolute(a), error);
  if (error) return false;
  const auto other = std::filesystem::weakly_canonical(std::filesystem::absolute(b), error);
  return !error && one == other;
}

}  // namespace

void TrainFiles::add(CLI::App &command) {
  const char *const group = "What it writes";
  command.add_option("--out", out, "the trained model, a GGUF file")->type_name("FILE")->group(group);
  command.add_option("--type", type, "of matrices that were trained")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str()
      ->group(group);
  command.add_option("--adapter", adapter, "with --train lora: the adapters alone, as a second file")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--checkpoint", checkpoint, "the state of the training, to go on from if it is there")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--checkpoint-every", checkpoint_every, "save it after so many steps")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(group);
  CLI::Option *const logged = command.add_option("--log", log, "a line of JSON a step");
  logged->type_name("FILE")->group(group);
  command.add_option("--log-every", log_every, "only each so many steps")
      ->check(CLI::PositiveNumber)
      ->needs(logged)
      ->group(group);
  command
      .add_option("--evaluate-every", evaluate_every,
                  "measure each so many steps; 0: before the first and after the last")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
}

void TrainFiles::check_early(const std::string &model) const {
  if (out.empty()) throw std::runtime_error("--out: name the file that the trained model is written to");
  const std::pair<const char *, const std::string &> named[] = {
      {"MODEL", model}, {"--out", out}, {"--adapter", adapter}, {"--checkpoint", checkpoint}, {"--log", log}};
  for (const auto &[flag, path] : named) {
    for (const auto &[other, before] : named) {
      if (other == flag) break;
      if (path.empty() || !same_file(path, before)) continue;
      throw std::runtime_error(std::string(flag) + ": " + path +
                               (&before == &model ? " is the model that is trained, which the training needs to go on"
                                                  : std::string(" is what ") + other + " names") +
                               "; name another file");
    }
  }
  check_writable("--out", out);
  if (!adapter.empty()) check_writable("--adapter", adapter);
  if (!checkpoint.empty()) check_writable("--checkpoint", checkpoint);
  if (!log.empty()) check_writable("--log", log);
}

std::string TrainRun::run(Model model, const Options &options) {
  trainer_ = make<Trainer>(infini_trainer_create, model.get(), json_text(plan_.description, "the description").c_str(),
                           options.get(), Progress("taking up the weights").task());
  model.reset();  // the trainer holds all that it needs
  check(infini_trainer_set_ranks(trainer_.get(), ranks_.rank(), ranks_.count(), Ranks::sum, nullptr));
  if (const Json state = info(); state["training"]["train"] == "gates" && all_shut(state["gates"]))
    throw std::runtime_error(
        "--train gates: every gate of the model is shut, and a shut gate learns nothing; open them with --memory open");
  if (!files_.checkpoint.empty() && ranks_.from_first(std::filesystem::exists(files_.checkpoint))) {
    check(infini_trainer_restore(trainer_.get(), files_.checkpoint.c_str(), nullptr));
    start_ = step_ = saved_ = info()["steps"].get<int64_t>();
    if (!json_ && ranks_.first()) print("goes on after step " + grouped(step_) + ", from " + files_.checkpoint + "\n");
  }
  const Json told = info();
  const int64_t length = told["segment"].get<int64_t>() * told["segments"].get<int64_t>(),
                together = std::max<int64_t>(1, told["training"]["tokens"].get<int64_t>() / length);
  if (together < ranks_.count() && ranks_.first())
    std::fprintf(stderr,
                 "a step reads %s sequences of %s tokens, which keeps as many of the %d processes busy: give more "
                 "--tokens, or a smaller --segment or --segments\n",
                 grouped(together).c_str(), grouped(length).c_str(), ranks_.count());
  if (!files_.log.empty() && ranks_.first()) {
    log_.emplace(files_.log, step_,
                 Json{{"create", plan_.create.empty() ? Json() : Json::parse(plan_.create)},
                      {"description", plan_.description},
                      {"steps", plan_.steps},
                      {"library", infini_version()},
                      {"trainer", info()}});
    evaluated_ = log_->evaluated();
  }
  evaluated_ = ranks_.from_first(evaluated_);  // the log says it
  line_.emplace(ranks_.first());
  try {
    const bool done = loop();
    line_.reset();
    if (!done) return ranks_.first() ? stop() : "";
    if (!files_.checkpoint.empty()) save(files_.checkpoint);
    write();
  } catch (const Diverged &) { throw; } catch (const std::exception &error) {
    line_.reset();
    const std::string said = error.what() + kept();
    ranks_.linger();
    throw std::runtime_error(said);
  }
  print_summary();
  tell_of_unknown_text(unknown_);
  return "";
}

bool TrainRun::loop() try {
  for (;;) {
    if (evaluation_is_due()) evaluate();
    if (!files_.checkpoint.empty() && step_ > start_ && step_ % files_.checkpoint_every == 0) save(files_.checkpoint);
    if (step_ >= plan_.steps) return true;
    step();
  }
} catch (const Cancelled &) { return false; }

bool TrainRun::evaluation_is_due() const {
  if (evaluated_ == step_) return false;
  return step_ == 0 || step_ >= plan_.steps || (files_.evaluate_every > 0 && step_ % files_.evaluate_every == 0);
}

void TrainRun::step() {
  const infini_status status = infini_trainer_step(trainer_.get(), progress_.task());
  if (status == INFINI_STATE && report_.value("gradient_norm", Json(0)).is_null())
    throw Diverged(infini_last_error() + std::string(" (--rate, --muon-rate), and not from a checkpoint of this one"));
  check(status);
  report_ = json_of(infini_trainer_report_json, trainer_.get());
  step_ = report_["step"].get<int64_t>();
  if (log_ && (step_ % files_.log_every == 0 || step_ >= plan_.steps)) log_->write(report_);
  const double seconds = report_["seconds"].get<double>();
  unknown_ += report_["unknown_bytes"].get<int64_t>();
  read_ += std::llround(seconds * report_["tokens_per_second"].get<double>());
  seconds_ += seconds;
  pace_ += (seconds - pace_) * (pace_ == 0 ? 1 : 0.1);
  show(report_);
}

void TrainRun::show(const Json &report) {
  std::string text = "step " + grouped(step_) + "/" + grouped(plan_.steps);
  text += "  loss " + decimals(report["loss"], 3);
  if (report["recall_across"].is_number()) text += "  recall " + decimals(report["recall_across"], 2);
  text += "  " + grouped(std::llround(report["tokens_per_second"].get<double>())) + " tokens/s";
  text += "  " + report["segment"].dump() + " x " + report["segments"].dump();
  text += "  " + time_text(pace_ * static_cast<double>(plan_.steps - step_)) + " left";
  if (report["gradient_norm"].is_null()) text += "  (gradients are not finite)";
  line_->show(text);
}

void TrainRun::evaluate() {
  Json results = Json::array();
  const Json planned = plan_.description.value("evaluation", Json::object()), all = info()["evaluation"];
  for (const auto &[name, given] : planned.items()) {  // in the order of the files
    const Json &one = all.at(name), &lengths = one["segments"];
    for (const int segments : lengths.empty() ? std::vector{0} : lengths.get<std::vector<int>>()) {
      line_->show("step " + grouped(step_) + "/" + grouped(plan_.steps) + "  measuring " + name);
      Json result = {{"name", name}};
      result.update(json_of(infini_trainer_evaluate_json, trainer_.get(), one["data"].dump().c_str(),
                            one["sequences"].get<int>(), segments, progress_.task()));
      if (is_text(one["data"]))
        result["perplexity"] = result["loss"].is_number() ? Json(std::exp(result["loss"].get<double>())) : Json();
      results.push_back(std::move(result));
    }
  }
  evaluation_ = std::move(results);
  evaluated_ = step_;
  if (log_) log_->write({{"step", step_}, {"evaluation", evaluation_}, {"gates", info()["gates"]}});
}

void TrainRun::save(const std::string &checkpoint) {
  if (saved_ == step_ || !ranks_.first()) return;
  const Patience patience;
  check(infini_trainer_save(trainer_.get(), checkpoint.c_str(), nullptr));
  saved_ = step_;
}

void TrainRun::write() {
  if (!ranks_.first()) return;
  const Patience patience;
  check(infini_trainer_write(trainer_.get(), files_.out.c_str(), files_.type.c_str(), nullptr));
  if (!files_.adapter.empty()) check(infini_trainer_write_adapter(trainer_.get(), files_.adapter.c_str(), nullptr));
}

std::string TrainRun::checkpoint() const {
  return files_.checkpoint.empty() ? files_.out + ".checkpoint" : files_.checkpoint;
}

// What an error leaves behind, for its message: the state, or, where that cannot be saved, the model. What they say
// themselves is nothing beside the first error.
std::string TrainRun::kept() {
  if (step_ == start_ || !ranks_.first()) return "";
  try {
    save(checkpoint());
    return "; the state after step " + grouped(step_) + " is in " + checkpoint() + ", from which --checkpoint goes on";
  } catch (const std::exception &) {}
  try {
    write();
    return "; the model after step " + grouped(step_) + " is in " + files_.out;
  } catch (const std::exception &) { return ""; }
}

std::string TrainRun::stop() {
  if (step_ == 0) return Cancelled().what();
  save(checkpoint());
  write();
  print_summary();
  return "cancelled after " + grouped(step_) + " of " + grouped(plan_.steps) + " steps; the model so far is in " +
         files_.out + ", and the same command" +
         (files_.checkpoint.empty() ? " with --checkpoint " + checkpoint() : "") + " goes on";
}

Json TrainRun::summary() const {
  const Json state = info();
  Json json = {{"step", step_}, {"steps", plan_.steps}};
  json.update(report_);  // of the last step
  for (const char *const key : {"tokens", "parameters", "trained_parameters", "compute", "gates"})
    json[key] = state[key];
  json["tokens_per_second"] = seconds_ > 0 ? Json(static_cast<double>(read_) / seconds_) : Json();
  json["evaluation"] = evaluation_;
  json["file"] = files_.out;
  json["bytes"] = std::filesystem::file_size(files_.out);
  return json;
}

void TrainRun::print_summary() const {
  if (!ranks_.first()) return;
  const Json json = summary();
  if (json_) return print_json(json);
  std::string text =
      format("steps          %s\ntokens         %s\n", grouped(step_).c_str(), grouped(json["tokens"]).c_str());
  if (report_.contains("loss")) {
    text += "loss           " + decimals(json["loss"], 4) + " nats\n";
    if (json["recall_across"].is_number() || json["recall_inside"].is_number())
      text += "recall         " + recall_text(json) + "\n";
    text +=
        format("speed          %s tokens/s\n", grouped(std::llround(json["tokens_per_second"].get<double>())).c_str());
  }
  for (const Json &result : evaluation_) {
    text += format("%-14s %s segments of %s: ", result["name"].get<std::string>().c_str(),
                   result["segments"].dump().c_str(), result["segment"].dump().c_str());
    text += result.contains("perplexity") ? "perplexity " + decimals(result["perplexity"], 2) + "\n"
                                          : "recall " + recall_text(result) + "\n";
  }
  size_t layer = 0;
  for (const Json &gates : json["gates"]) {
    text += format("gates, layer %-2zu", layer++);
    for (const Json &gate : gates) text += " " + decimals(gate, 2);
    text += "\n";
  }
  print(text + "written        " + files_.out + ", " + size_text(json["bytes"]) + "\n");
}

}  // namespace cli
