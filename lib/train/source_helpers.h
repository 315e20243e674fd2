// What sources of sequences share: random draws, the size of a sequence, and states as JSON.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "base/fields.h"
#include "base/random.h"
#include "base/status.h"

namespace infini {

// One of 0, ..., count - 1.
inline size_t draw_below(Random &random, size_t count) {
  return static_cast<size_t>(random.uniform() * static_cast<double>(count));
}
inline double draw_uniform(Random &random, double least, double greatest) {
  return least + (greatest - least) * random.uniform();
}
inline double draw_log_uniform(Random &random, double least, double greatest) {
  return std::exp(draw_uniform(random, std::log(least), std::log(greatest)));
}

// Moves `count` of the items, drawn without replacement, to the front.
template <class T>
void draw_to_front(Random &random, std::vector<T> &items, size_t count) {
  for (size_t i = 0; i < count; ++i) std::swap(items[i], items[i + draw_below(random, items.size() - i)]);
}

constexpr int kLongestSequence = 1 << 26;  // tokens

// Tokens of a sequence. INVALID_ARGUMENT where there would be none, or too many to number.
inline int sequence_size(int segment, int segments) {
  if (segment < 1 || segments < 1 || segment > kLongestSequence / segments)
    fail(Status::INVALID_ARGUMENT, segments, " segments of ", segment, " tokens are no sequence");
  return segment * segments;
}

// The state that a source saved: an object. FORMAT for one that is damaged.
inline OwnedJson<> parse_state(const std::string &state) {
  try {
    auto json = parse_json(state, Status::FORMAT, "the state");
    if (json->is_object()) return json;
  } catch (const Error &) {}
  fail(Status::FORMAT, "the state of a source of sequences is damaged");
}

inline std::string save_random(const Random &random) { return JsonObject().add("random", random.state()).text(); }

inline void restore_random(const nlohmann::json &state, Random &random) {
  const auto words = state.find("random");
  const auto is_word = [](const nlohmann::json &word) { return word.is_number_unsigned(); };
  std::array<uint64_t, 4> read{};
  if (words != state.end() && words->is_array() && words->size() == 4 && std::ranges::all_of(*words, is_word))
    words->get_to(read);
  if (read == std::array<uint64_t, 4>{}) fail(Status::FORMAT, "the state of the random numbers is damaged");
  random.set_state(read);
}

}  // namespace infini
