// A document: tokens, and what it says of them, from which all supervision is made. Files hold such documents
// (document_files.h), and tasks make them (adapt/tasks.h); append() alone makes sequences of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "train/sequence.h"

namespace infini {

struct DocumentLink {
  // RETRIEVAL: the query that predicts `from` should retrieve `to`.
  // ANSWER: recall is measured at `from`, which is part of an answer that stood at `to` before (Sequence::answer). It
  // adds no loss.
  // LOCAL: local attention at `from` should fall on `to`.
  enum class Kind { RETRIEVAL, ANSWER, LOCAL } kind;
  int32_t from, to;  // tokens, `to` before `from`
  float weight = 1;  // loss weight of a retrieval
};

// A document, or a part of one.
struct Document {
  std::vector<int32_t> tokens;
  std::vector<float> weight;        // loss weights of the tokens
  std::vector<DocumentLink> links;  // ascending by `from`
  std::vector<Tag> tags;            // of the tokens up to the last of a value; label: of the name whose value it is
  // `links` is complete: a token without one is a negative example, for which nothing should be retrieved.
  bool supervised = false;
  bool begins = true;         // it is the first part of the document
  int64_t unknown_bytes = 0;  // as in Sequence

  // So many tokens from `begin` on are a value, which is asked for token by token. Of those that overlap, the last
  // counts.
  void add_value(int32_t begin, int32_t count, int32_t of_label = -1);
  // Links from so many tokens.
  std::span<const DocumentLink> links_of(size_t first, size_t count) const {
    const auto before = [](const DocumentLink &link, size_t token) { return static_cast<size_t>(link.from) < token; };
    const auto begin = std::lower_bound(links.begin(), links.end(), first, before);
    return {begin, std::lower_bound(begin, links.end(), first + count, before)};
  }
};

// Appends `count` tokens from `first` on, and what is said of them, to a sequence whose segments hold so many tokens.
// The memory begins anew with a document, and with a sequence; predicting their first tokens weighs 0. Links that lead
// to a token before `first` are left out. `carry`: tokens before a segment that local attention sees too.
void append(const Document &document, size_t first, size_t count, int64_t segment, int64_t carry, Sequence &out);

}  // namespace infini
