// Sources of sequences from a description in JSON:
//
//   {"type": "recall", "seed": 1, "names": ["pass", ...], "prose": ["book.txt", ...], "prose_share": 0.5, "numbers": 0,
//    "density": [0.7, 12], "nearest": 12, "far": 0, "distance": 0, "fold": 1,
//    "carry": 0, "inside": 1, "across": 3, "first": 1, "other": 0.15, "other_share": 0.1, "lookups": "all"}
//   {"type": "passkey", "keys": 1, "questions": 1, "depth": [0, 1], ... as for recall, but no density and no distances}
//   {"type": "text", "files": ["book.txt", ...], "order": "stream", "weight": 1}
//   {"type": "text", "files": [...], "order": "excerpts", "seed": 1, "weight": 1}
//   {"type": "jsonl", "files": ["documents.jsonl", ...], "field": "text", "weight": 1}
//   {"type": "mixture", "seed": 1, "sources": [{"ratio": 9, "source": {...}}, ...]}
//
// The values shown are the defaults of what may be left out: all but "type", "files" and "sources". "lookups" is all,
// first or value. "fold" is the greatest virtual length of a segment of filler. What fields mean is said in tasks.h and data.h.
#pragma once

#include <memory>
#include <string_view>

#include "text/tokenizer.h"
#include "train/curriculum.h"
#include "train/sequence.h"

namespace infini {

// INVALID_ARGUMENT names the field that is wrong; otherwise the errors are those of the sources. The tokenizer must outlive
// the source. Tasks are as hard as the curriculum says; without one (NULL), as their description does.
std::unique_ptr<SequenceSource> make_source(std::string_view description, const Tokenizer &tokenizer,
                                            std::shared_ptr<const Curriculum> curriculum);

}  // namespace infini
