// How sequences lie among the rows of a batch: every product of a layer takes all rows at once, then attention takes
// each stream segment by segment.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/window.h"
#include "train/sequence.h"

namespace infini {

struct SegmentSpan {
  int64_t first, tokens;  // rows
  int64_t held;           // tokens of its stream that were folded before it
  float fold;             // repeat weight: factor on what the segment adds to M and z
};

// One document, which is one stream: its memory begins empty.
struct StreamSpan {
  int64_t first, tokens;  // rows
  int64_t first_segment, segments;

  // What row `row` of the segment sees, as a session would. The segment's end is not reached.
  static View view(const AttentionShape &shape, int64_t stream_first, const SegmentSpan &segment);
};

// A query whose retrieval is supervised: that of `row`, which predicts the next token.
struct Retrieval {
  int64_t row;
  int64_t first_source, sources;  // of Layout::source_rows, all in earlier segments of the stream
  int32_t place = -1;             // digit index: which token of its value the predicted one is; -1: none
  float weight = 1;               // loss weight of the query, times that of the head
};

struct Layout {
  // Appends a sequence; segments end every `segment` tokens of a document, and where `closes` says (counts of tokens
  // from the sequence's start, ascending: as if a session had closed its segment there). INVALID_ARGUMENT for a
  // sequence whose parts do not fit each other, or a token outside the vocabulary.
  void add(const Sequence &sequence, int64_t segment, int64_t vocabulary, std::span<const int64_t> closes = {});
  void clear();
  // The same with every stream in one segment, where nothing can be retrieved.
  Layout whole() const;
  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
  // The supervised rows, ascending: those of retrievals, and quiet ones.
  std::vector<int64_t> told() const;

  std::vector<int32_t> tokens;  // [rows]
  std::vector<int32_t> target;  // [rows]: the token after it, -1 at a document's end
  std::vector<float> weight;    // [rows]: of predicting the target
  std::vector<uint8_t> answer;  // [rows]: of the target, as in Sequence
  std::vector<StreamSpan> streams;
  std::vector<SegmentSpan> segments;  // of all streams, in order
  std::vector<Retrieval> retrievals;  // by row
  std::vector<int64_t> source_rows;
  std::vector<int64_t> quiet;        // ascending: some rows that ask for nothing, of sequences with digit indices
  std::vector<int32_t> name, place;  // [rows]: Sequence's label and offset (digit index) of the token; -1 elsewhere
  // The digit index of the answer's token that the row predicts, -1 where it predicts none.
  int32_t asked(int64_t row) const {
    return answer[static_cast<size_t>(row)] > 0 ? place[static_cast<size_t>(row) + 1] : -1;
  }
  std::vector<int64_t> subject;  // [rows] or empty: supervision target of local attention, an earlier row; -1: none
  int64_t subjects = 0;          // rows that have one
};

}  // namespace infini
