// How sequences lie in a batch. Each token is a row, and sequences follow one another; the matrix products of a layer
// take all rows at once, its attention takes each stream segment by segment.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/view.h"
#include "train/sequence.h"

namespace infini {

struct SegmentSpan {
  int64_t first, tokens;  // rows
  int64_t held;           // tokens of its stream that the memory holds before it
  float repeat_weight;    // factor on what the segment adds to M and z, as in Sequence
};

// One document, which is one stream: its memory begins empty.
struct StreamSpan {
  int64_t first, tokens;  // rows
  int64_t first_segment, segments;

  // What local attention sees while the segment is read, as in a session.
  static View view(const AttentionShape &shape, int64_t stream_first, const SegmentSpan &segment);
};

// A supervised query: the retrieval of `row`, which predicts the token after it, should fall on its source rows.
struct Retrieval {
  int64_t row;
  int64_t first_source, sources;  // which of BatchLayout::source_rows: all in earlier segments of the stream
  float weight = 1;               // loss weight of the query, a factor on the head's
};

struct BatchLayout {
  // Appends a sequence. Segments end every `segment` tokens of a document, and where `closes` says: after so many
  // tokens from the sequence's start, ascending, as if a session had closed its segment there. INVALID_ARGUMENT for a
  // sequence whose parts do not fit each other, or a token outside the vocabulary.
  void add(const Sequence &sequence, int64_t segment, int64_t vocabulary, std::span<const int64_t> closes = {});
  void clear();
  // The same batch with every stream in one segment, where nothing can be retrieved.
  BatchLayout unsegmented() const;
  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
  // The rows whose queries are supervised, ascending: those of `retrievals`, and the silent ones.
  std::vector<int64_t> supervised_rows() const;

  std::vector<int32_t> tokens;  // [rows]
  std::vector<int32_t> target;  // [rows]: the token after it, -1 at a document's end
  std::vector<float> weight;    // [rows]: loss weight of predicting the target
  std::vector<uint8_t> answer;  // [rows]: of the target, as in Sequence
  std::vector<StreamSpan> streams;
  std::vector<SegmentSpan> segments;  // of all streams, in order
  std::vector<Retrieval> retrievals;  // ascending by row
  std::vector<int64_t> source_rows;
  std::vector<int64_t> silent;        // ascending: rows without sources that should retrieve nothing; add() adds none
  std::vector<Tag> tags;              // [rows]: of the token, as in Sequence
  std::vector<int64_t> local_target;  // [rows]: the earlier row on which local attention should fall; -1: none
  int64_t local_targets = 0;          // number of rows that have one

 private:
  // Where the document and the segment of a token begin, counted in the sequence.
  struct Start {
    int64_t document, segment;
  };
  // The two halves of add(): first the streams and segments of a sequence, which gives the start of each token's; then
  // everything that has one element a row.
  std::vector<Start> add_segments(const Sequence &sequence, int64_t segment, std::span<const int64_t> closes);
  void add_rows(const Sequence &sequence, const std::vector<Start> &starts);
};

}  // namespace infini
