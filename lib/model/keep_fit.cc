#include "model/keep_fit.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/fields.h"
#include "base/json.h"
#include "base/parallel.h"
#include "gemm/gemm.h"
#include "gemm/solve.h"
#include "kernels/kernels.h"
#include "model/forward.h"

namespace infini {
namespace {

struct Sentence {
  std::vector<float> mean;  // [width]: of x / rms(x), one token of zeros counted beside its own, as Keep counts
  bool worthy;
};

// The sentences of the stream, as Keep cuts them; those that are worth keeping in part alone are left out.
std::vector<Sentence> read_sentences(const Threads &threads, const Model &model, std::span<const int32_t> tokens,
                                     std::span<const uint8_t> worth, int layer, Task *task) {
  const auto width = static_cast<int64_t>(model.config().width);
  const float epsilon = model.config().norm_epsilon;
  std::vector<Sentence> sentences;
  std::vector<float> sum(static_cast<size_t>(width));
  int64_t at = 0, held = 0, worthy = 0;
  Workspace workspace;
  workspace.watch = [&](int l, const float *x, int64_t rows, int64_t stride) {
    if (l != layer) return;
    for (int64_t row = 0; row < rows; ++row, ++at) {
      const float *const from = x + row * stride;
      add_scaled(from, 1 / std::sqrt(dot(from, from, width) / static_cast<float>(width) + epsilon), width, sum.data());
      ++held, worthy += worth[static_cast<size_t>(at)] != 0;
      if (!model.ends_sentence(tokens[static_cast<size_t>(at)]) && held < kLongestSpan) continue;
      for (float &value : sum) value /= static_cast<float>(held + 1);
      if (worthy == 0 || 2 * worthy > held) sentences.push_back({sum, worthy > 0});
      std::fill(sum.begin(), sum.end(), 0.0f);
      held = worthy = 0;
    }
  };
  State state(model);
  for (size_t done = 0; done < tokens.size();) {
    const auto count = std::min<size_t>(tokens.size() - done, static_cast<size_t>(longest_block(model, state)));
    const Part part{&state, tokens.subspan(done, count)};
    forward(threads, model, {&part, 1}, workspace, false, {});
    done += count;
    if (!task) continue;
    task->advance_to(static_cast<int64_t>(done));
    if (task->take_cancel()) fail(Status::CANCELLED, "learning what to keep was cancelled");
  }
  return sentences;
}

}  // namespace

KeepProbe fit_keep(const Model &model, std::span<const int32_t> tokens, std::span<const uint8_t> worth,
                   const KeepFit &fit, Task *task) {
  const Config &config = model.config();
  if (config.memory.keep == 0)
    fail(Status::STATE, "this model keeps no sentences: open it with option 'keep' to learn what is worth keeping");
  if (fit.layer < -1 || fit.layer >= config.layers || !(fit.ridge > 0) || !(fit.ridge < 1e6) || !(fit.stray >= 0) ||
      !(fit.stray < 1))
    fail(Status::INVALID_ARGUMENT, "learning what to keep: 'layer' must be one of the model's ", config.layers,
         " layers, or -1, 'ridge' above 0, and 'stray' at least 0 and below 1");
  KeepProbe probe;
  probe.layer = fit.layer >= 0 ? fit.layer : config.layers * 4 / 7;
  probe.bias = fit.bias;
  probe.focus = static_cast<float>(fit.focus);
  probe.standing = fit.standing;
  for (const int32_t token : tokens)
    if (token < 0 || token >= config.vocabulary)
      fail(Status::INVALID_ARGUMENT, "token ", token, " is not in the vocabulary of ", config.vocabulary);
  if (task) task->begin("keep", static_cast<int64_t>(tokens.size()));
  const ThreadScope threads(model.threads(), fit.threads > 0 ? fit.threads : default_threads());
  const std::vector<Sentence> sentences = read_sentences(threads, model, tokens, worth, probe.layer, task);
  const auto worthy = static_cast<double>(
      std::count_if(sentences.begin(), sentences.end(), [](const Sentence &s) { return s.worthy; }));
  const double others = static_cast<double>(sentences.size()) - worthy;
  if (worthy == 0 || others == 0)
    fail(Status::INVALID_ARGUMENT, "of ", sentences.size(), " sentences ", worthy,
         " are worth keeping: there must be some of either sort");

  const auto width = static_cast<size_t>(config.width);
  const auto weight = [&](const Sentence &s) { return s.worthy ? 0.5 / worthy : 0.5 / others; };
  std::vector<double> mean(width), a(width * width), w(width);
  for (const Sentence &s : sentences)
    for (size_t i = 0; i < width; ++i) mean[i] += weight(s) * static_cast<double>(s.mean[i]);
  parallel_for(threads, static_cast<int64_t>(width), 8, [&](int64_t begin, int64_t end) {
    for (const Sentence &s : sentences)
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        const double x = weight(s) * (static_cast<double>(s.mean[i]) - mean[i]);
        for (size_t j = 0; j < width; ++j) a[i * width + j] += x * (static_cast<double>(s.mean[j]) - mean[j]);
        w[i] += x * (s.worthy ? 0.5 : -0.5);
      }
  });
  double trace = 0;
  for (size_t i = 0; i < width; ++i) trace += a[i * (width + 1)];
  for (size_t i = 0; i < width; ++i) a[i * (width + 1)] += fit.ridge * trace / static_cast<double>(width);
  if (!solve_positive(config.width, 1, a.data(), w.data()))
    fail(Status::INVALID_ARGUMENT, "what the model reads is not finite, or always 0: there is nothing to fit");
  probe.weight.assign(w.begin(), w.end());

  std::vector<float> scores;  // of what is not worth keeping
  for (const Sentence &s : sentences)
    if (!s.worthy) scores.push_back(dot(s.mean.data(), probe.weight.data(), config.width));
  const auto place = static_cast<size_t>((1 - fit.stray) * static_cast<double>(scores.size() - 1));
  std::nth_element(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(place), scores.end());
  probe.least = scores[place];
  return probe;
}

Gguf with_probe(const Model &model, const KeepProbe &probe) {
  Gguf gguf = model.gguf();
  gguf.set_doubles("infini.keep.probe", probe.weight);
  gguf.set("infini.keep.layer", static_cast<uint32_t>(probe.layer));
  gguf.set("infini.keep.least", probe.least);
  if (probe.bias.empty()) gguf.erase("infini.keep.bias");
  else gguf.set_doubles("infini.keep.bias", probe.bias);
  gguf.set("infini.keep.focus", probe.focus);
  gguf.set("infini.keep.standing", int64_t{probe.standing});
  return gguf;
}

KeepLesson read_keep_lesson(const Model &model, const char *text) {
  KeepLesson lesson;
  const auto json = parse_json(text, Status::INVALID_ARGUMENT, "lesson_json");
  Fields fields(*json, "lesson_json");
  lesson.fit.layer = static_cast<int>(fields.whole("layer", -1, -1, model.config().layers - 1));
  lesson.fit.ridge = fields.number("ridge", lesson.fit.ridge, 1e-9, 1e6);
  lesson.fit.stray = fields.number("stray", lesson.fit.stray, 0, 0.99);
  lesson.fit.focus = fields.number("focus", lesson.fit.focus, 0, 100);
  lesson.fit.standing = static_cast<int>(fields.whole("standing", lesson.fit.standing, 0, 1 << 20));
  lesson.fit.threads = static_cast<int>(fields.whole("threads", 0, 0, 4096));
  if (const nlohmann::json *bias = fields.find("bias")) {
    const int layers = model.config().layers, heads = model.config().heads;
    const auto refuse = [&] {
      fields.refuse("bias", cat("a list of [layer, head, nats] of ", layers, " layers of ", heads, " heads"));
    };
    if (!bias->is_array()) refuse();
    lesson.fit.bias.resize(static_cast<size_t>(layers) * static_cast<size_t>(heads));
    for (const nlohmann::json &one : *bias) {
      if (!one.is_array() || one.size() != 3 || !fits<int>(one[0]) || !fits<int>(one[1]) || !one[2].is_number() ||
          one[0] < 0 || one[0] >= layers || one[1] < 0 || one[1] >= heads || !(std::abs(one[2].get<double>()) <= 100))
        refuse();
      lesson.fit.bias[one[0].get<size_t>() * static_cast<size_t>(heads) + one[1].get<size_t>()] = one[2].get<float>();
    }
  }
  const nlohmann::json *pieces = fields.find("pieces");
  if (!pieces || !pieces->is_array()) fields.refuse("pieces", "a list of objects");
  for (size_t i = 0; i < pieces->size(); ++i) {
    Fields piece((*pieces)[i], cat("lesson_json.pieces[", i, "]"));
    const bool keep = piece.flag("keep", false);
    Tokenizer::Encode how;
    how.start = lesson.tokens.empty();
    for (const int32_t token : model.tokenizer().encode(piece.text("text", ""), how)) {
      lesson.tokens.push_back(token);
      lesson.worth.push_back(keep);
    }
    piece.finish();
  }
  fields.finish();
  return lesson;
}

}  // namespace infini
