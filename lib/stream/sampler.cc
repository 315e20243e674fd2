#include "stream/sampler.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "base/platform.h"
#include "base/status.h"

namespace infini {

void RecentTokens::set_window(size_t window) {
  std::vector<int32_t> kept = in_order();
  if (kept.size() > window) kept.erase(kept.begin(), kept.end() - static_cast<std::ptrdiff_t>(window));
  window_ = window;
  tokens_ = std::move(kept);
  tokens_.reserve(window);
  next_ = 0;
}

void RecentTokens::push(int32_t token) {
  if (window_ == 0) return;
  if (tokens_.size() < window_) {
    tokens_.push_back(token);
  } else {
    tokens_[next_] = token;
    next_ = (next_ + 1) % window_;
  }
}

std::vector<int32_t> RecentTokens::in_order() const {
  std::vector<int32_t> out(tokens_.begin() + static_cast<std::ptrdiff_t>(next_), tokens_.end());
  out.insert(out.end(), tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(next_));
  return out;
}

std::vector<std::pair<int32_t, float>> parse_logit_bias(const std::string &text, int vocabulary) {
  std::map<int32_t, float> sums;
  const char *at = text.data(), *const end = at + text.size();
  while (at < end) {
    int32_t id = 0;
    float bias = 0;
    const auto parsed_id = std::from_chars(at, end, id);
    const bool has_colon = parsed_id.ec == std::errc() && parsed_id.ptr < end && *parsed_id.ptr == ':';
    const auto parsed = has_colon ? platform::real_from_chars(parsed_id.ptr + 1, end, bias) : parsed_id;
    if (!has_colon || parsed.ec != std::errc() || (parsed.ptr < end && *parsed.ptr != ','))
      fail(Status::INVALID_ARGUMENT, "option 'logit_bias' is '", text, "', but must read ID:BIAS,ID:BIAS,...");
    if (id < 0 || id >= vocabulary)
      fail(Status::INVALID_ARGUMENT, "option 'logit_bias' names token ", id, ", but the vocabulary has ", vocabulary);
    if (std::isnan(bias) || bias == std::numeric_limits<float>::infinity())
      fail(Status::INVALID_ARGUMENT, "option 'logit_bias' gives token ", id, " the bias ", bias);
    float &sum = sums.try_emplace(id, 0.0f).first->second;
    sum += bias;
    if (!(sum < std::numeric_limits<float>::infinity()))
      fail(Status::INVALID_ARGUMENT, "option 'logit_bias' gives token ", id, " a sum of ", sum);
    at = parsed.ptr < end ? parsed.ptr + 1 : end;
  }
  return {sums.begin(), sums.end()};
}

Sampler::Sampler(const GenerationOptions &how, int vocabulary)
    : how_(how), bias_(parse_logit_bias(how.logit_bias, vocabulary)), logits_(static_cast<size_t>(vocabulary)),
      occurrences_(static_cast<size_t>(vocabulary)) {
  candidates_.reserve(static_cast<size_t>(vocabulary));
}

void Sampler::penalize(const RecentTokens &recent) {
  if (how_.repetition_penalty == 1 && how_.presence_penalty == 0 && how_.frequency_penalty == 0) return;
  for (const int32_t token : recent.any_order()) ++occurrences_[token];
  for (const int32_t token : recent.any_order()) {
    const auto id = static_cast<size_t>(token);
    if (occurrences_[id] == 0) continue;  // done already
    float &logit = logits_[id];
    logit = logit > 0 ? logit / how_.repetition_penalty : logit * how_.repetition_penalty;
    logit -= how_.presence_penalty + how_.frequency_penalty * static_cast<float>(occurrences_[id]);
    occurrences_[id] = 0;
  }
}

void Sampler::truncate(size_t count) {
  if (count >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(count), candidates_.end(),
                   std::greater<>());
  candidates_.resize(count);
}

int32_t Sampler::sample(std::span<const float> logits, const RecentTokens &recent, Random &random) {
  std::copy(logits.begin(), logits.end(), logits_.begin());
  penalize(recent);
  for (const auto &[token, bias] : bias_) logits_[token] += bias;
  const auto likeliest = std::max_element(logits_.begin(), logits_.end());
  if (!std::isfinite(*likeliest))
    fail(Status::INVALID_ARGUMENT, "no token is possible: the largest logit, after penalties and bias, is ",
         *likeliest);
  if (how_.temperature == 0) return static_cast<int32_t>(likeliest - logits_.begin());

  const float maximum = *likeliest;
  candidates_.clear();
  // Tokens exp(-80) times as likely as the likeliest, or less, are never drawn from 53 random bits.
  for (size_t i = 0; i < logits_.size(); ++i) {
    const auto logit = static_cast<float>((logits_[i] - maximum) / how_.temperature);
    if (logit > -80) candidates_.push_back({logit, static_cast<int32_t>(i)});
  }
  if (how_.top_k > 0) truncate(static_cast<size_t>(how_.top_k));
  const auto sum = [&] {
    double total = 0;
    for (const Candidate &candidate : candidates_) total += candidate.weight();
    return total;
  };
  double total = sum();
  if (how_.top_p < 1) {
    // A heap gives the likeliest first; usually few of them make up p.
    std::make_heap(candidates_.begin(), candidates_.end());
    double kept = 0;
    auto end = candidates_.end();
    do {
      std::pop_heap(candidates_.begin(), end);
      kept += (--end)->weight();
    } while (kept < how_.top_p * total && end != candidates_.begin());
    candidates_.erase(candidates_.begin(), end);
    total = kept;
  }
  if (how_.min_p > 0) {
    const double least = std::log(how_.min_p);
    std::erase_if(candidates_, [&](const Candidate &candidate) { return candidate.logit < least; });
    total = sum();
  }
  double left = random.uniform() * total;
  for (const Candidate &candidate : candidates_) {
    left -= candidate.weight();
    if (left < 0) return candidate.token;
  }
  return candidates_.back().token;
}

}  // namespace infini
