// A document: tokens, their loss weights, and links and values, from which all supervision is made. Files hold
// documents (document_files.h), recall tasks generate them (adapt/recall_source.h), and append() turns them into
// sequences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "train/sequence.h"

namespace infini {

struct DocumentLink {
  // RETRIEVAL: the retrieval of the query that predicts `from` should fall on `to`.
  // ANSWER: `from` is part of an answer whose value last stood at `to`, so that recall is measured there
  // (Sequence::answer). It adds no loss.
  // LOCAL: local attention of `from` should fall on `to`.
  enum class Kind { RETRIEVAL, ANSWER, LOCAL } kind;
  int32_t from, to;  // tokens, `to` before `from`
  float weight = 1;  // loss weight of a retrieval
};

// A document, or a piece of one: as much as a reader gives at once.
struct Document {
  std::vector<int32_t> tokens;
  std::vector<float> weight;        // loss weights of the tokens
  std::vector<DocumentLink> links;  // ascending by `from`
  std::vector<Tag> tags;            // of the tokens up to the end of the last value
  // `links` is complete: a token without one is a negative example, for which nothing should be retrieved.
  bool supervised = false;
  bool begins = true;         // it is the first piece of the document
  int64_t unknown_bytes = 0;  // as in Sequence

  // Tags `count` tokens from `begin` on as a value with this label; -1: none. Where values overlap, the
  // last one counts.
  void add_value(int32_t begin, int32_t count, int32_t label = -1);
  // The links from `count` tokens, the first of which is `first`.
  std::span<const DocumentLink> links_of(size_t first, size_t count) const {
    const auto before = [](const DocumentLink &link, size_t token) { return static_cast<size_t>(link.from) < token; };
    const auto begin = std::lower_bound(links.begin(), links.end(), first, before);
    return {begin, std::lower_bound(begin, links.end(), first + count, before)};
  }
};

// Appends `count` tokens from `first` on, with their weights, links and tags, to a sequence in segments of `segment`
// tokens. The memory is empty at the start of a document and of a sequence, whose first tokens get the loss weight 0.
// Links to a token before `first` are left out. `carry`: tokens before a segment that local attention sees too.
void append(const Document &document, size_t first, size_t count, int64_t segment, int64_t carry, Sequence &out);

}  // namespace infini
