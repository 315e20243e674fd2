#include "model/keep_fit.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/fields.h"
#include "base/parallel.h"
#include "gemm/gemm.h"
#include "gemm/solve.h"
#include "kernels/kernels.h"
#include "model/forward.h"
#include "model/layers.h"
#include "model/memory_config.h"

namespace infini {
namespace {

struct Sentence {
  std::vector<float> mean;  // [width]: of x / rms(x), one token of zeros counted beside its own, as Keep counts
  bool worthy;
};

// The sentences of the stream, as Keep cuts them; those of which some tokens, but at most half, are worth keeping are
// left out.
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
      ++held, worthy += worth[at] != 0;
      if (!model.ends_sentence(tokens[at]) && held < kLongestSpan) continue;
      for (float &value : sum) value /= static_cast<float>(held + 1);
      if (worthy == 0 || 2 * worthy > held) sentences.push_back({sum, worthy > 0});
      std::fill(sum.begin(), sum.end(), 0.0f);
      held = worthy = 0;
    }
  };
  State state(model.config(), std::make_unique<HostLayers>(model, model.rules().choice.floats), 0);
  for (size_t done = 0; done < tokens.size();) {
    const auto count = std::min<size_t>(tokens.size() - done, static_cast<size_t>(longest_chunk(model, state)));
    const StateTokens one{&state, tokens.subspan(done, count)};
    forward(threads, model, {&one, 1}, workspace, false, {});
    done += count;
    if (!task) continue;
    task->advance_to(static_cast<int64_t>(done));
    if (task->take_cancel()) fail(Status::CANCELLED, "learning what to keep was cancelled");
  }
  return sentences;
}

// KeepProbe::bias.
std::vector<float> bias_of_heads(const std::vector<KeepBias> &rows, const Config &config) {
  if (rows.empty()) return {};
  std::vector<float> bias(static_cast<size_t>(config.layers) * static_cast<size_t>(config.heads));
  for (const KeepBias &row : rows) {
    if (row.layer >= config.layers || row.head >= config.heads || !(std::abs(row.nats) <= 100))
      fail(Status::INVALID_ARGUMENT, "learning what to keep: 'bias' has [", row.layer, ", ", row.head, ", ", row.nats,
           "], but the model has ", config.layers, " layers of ", config.heads, " heads, and nats are 100 at most");
    for (int layer = 0; layer < config.layers; ++layer)
      for (int head = 0; head < config.heads; ++head)
        if ((row.layer < 0 || row.layer == layer) && (row.head < 0 || row.head == head))
          bias[layer * config.heads + head] = static_cast<float>(row.nats);
  }
  return bias;
}

}  // namespace

KeepProbe fit_keep(const Model &model, std::span<const int32_t> tokens, std::span<const uint8_t> worth,
                   const KeepFit &fit, Task *task) {
  const Config &config = model.config();
  if (config.memory.keep == 0)
    fail(Status::STATE, "this model keeps no sentences: open it with option 'keep' to learn what is worth keeping");
  if (fit.layer < -1 || fit.layer >= config.layers)
    fail(Status::INVALID_ARGUMENT, "learning what to keep: 'layer' is ", fit.layer, ", but the model has ",
         config.layers, " layers");
  KeepProbe probe;
  probe.layer = fit.layer >= 0 ? fit.layer : config.layers * 4 / 7;
  probe.bias = bias_of_heads(fit.bias, config);
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
  if (!solve_ridge(config.width, 1, fit.ridge, a.data(), w.data()))
    fail(Status::INVALID_ARGUMENT, "what the model reads is not finite, or always 0: there is nothing to fit");
  probe.weight.assign(w.begin(), w.end());

  std::vector<float> scores;  // of what is not worth keeping
  for (const Sentence &s : sentences)
    if (!s.worthy) scores.push_back(dot(s.mean.data(), probe.weight.data(), config.width));
  const auto rank = static_cast<size_t>((1 - fit.stray) * static_cast<double>(scores.size() - 1));
  std::nth_element(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(rank), scores.end());
  probe.least = scores[rank];
  return probe;
}

Gguf with_probe(const Model &model, const KeepProbe &probe) {
  Gguf gguf = model.base();
  write_probe(probe, gguf);
  return gguf;
}

void KeepLesson::complete(const Fields &given) const {
  if (!given.has("pieces")) given.refuse("pieces", "a list of objects");
}

void fit_keep(const Model &model, const KeepLesson &lesson, const std::string &path, Task *task) {
  model.base();  // can be written with what was learned
  std::vector<int32_t> tokens;
  std::vector<uint8_t> worth;
  for (const KeepPiece &piece : lesson.pieces) {
    Tokenizer::Encode how;
    how.start = tokens.empty();
    const std::vector<int32_t> read = model.tokenizer().encode(piece.text, how);
    tokens.insert(tokens.end(), read.begin(), read.end());
    worth.resize(tokens.size(), piece.keep);
  }
  with_probe(model, fit_keep(model, tokens, worth, lesson, task)).save(path);
}

}  // namespace infini
