// Tiny models of every architecture, and what tests of them share.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sessions.h"
#include "stream/batch.h"
#include "support.h"

namespace test {

inline const char *const kArchitectures[] = {"llama",  "qwen2", "qwen3", "gemma",   "gemma2",
                                             "gemma3", "phi3",  "olmo2", "smollm3", "granite"};

// Logits after each token, fed `cut` at a time (0: all together).
inline std::vector<float> logits_of(infini::Session &session, std::span<const int32_t> tokens, size_t cut) {
  const auto vocabulary = static_cast<size_t>(session.model().config().vocabulary);
  std::vector<float> logits(tokens.size() * vocabulary);
  for (size_t done = 0; done < tokens.size();) {
    const size_t count = cut ? std::min(cut, tokens.size() - done) : tokens.size();
    session.feed_logits(tokens.subspan(done, count), logits.data() + done * vocabulary);
    done += count;
  }
  return logits;
}

// That sessions which have read so many tokens get in a batch the tokens that they get alone. Gives the latter.
inline std::vector<std::unique_ptr<infini::Session>> check_batch(const std::shared_ptr<const infini::Model> &model,
                                                                 std::span<const int32_t> tokens,
                                                                 const std::vector<size_t> &counts) {
  const infini::Options options = options_of({{"deterministic", int64_t{1}}, {"ignore_end", int64_t{1}}});
  infini::Batch batch(model);
  std::vector<std::unique_ptr<infini::Session>> alone;
  for (const size_t count : counts) {
    auto session = std::make_shared<infini::Session>(model, options);
    session->feed(tokens.first(count));
    alone.push_back(session->fork());
    batch.add(std::move(session));
  }
  std::vector<int32_t> together(counts.size());
  for (int step = 0; step < 12; ++step) {
    CHECK(batch.next(together) == counts.size());
    for (size_t i = 0; i < alone.size(); ++i) CHECK(together[i] == alone[i]->next());
  }
  return alone;
}

}  // namespace test
