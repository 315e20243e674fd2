// Documents from files, as tokens: of plain text, and of lines of JSON that may give loss weights (spans) and
// supervision targets (links).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "train/sequence.h"

namespace infini {

// A part of a document as tokens.
struct DocumentPart {
  std::vector<int32_t> tokens;
  std::vector<float> weight;    // loss weights of the tokens
  std::vector<Link> links;      // between tokens of the part, as in Sequence
  std::vector<int32_t> offset;  // of tokens that are linked, as in Sequence; empty where there are no links
  bool begins = false;          // it is the first part of the document
  int64_t unknown_bytes = 0;    // as in Sequence
};

// Documents one after the other, for ever.
class DocumentReader {
 public:
  virtual ~DocumentReader() = default;
  virtual DocumentPart next() = 0;
  virtual std::string save() const = 0;                // the position in the files, from which next() continues
  virtual void restore(const std::string &state) = 0;  // FORMAT
};

struct TextSettings {
  std::vector<std::string> files;
  double weight = 1;           // loss weight of each token; with spans: of those outside all of them
  std::string field = "text";  // which holds the text in a line of JSONL
  UnknownText unknown = UnknownText::FAIL;
};

// Each file is a document. Ends with the model's end token, where it has one. Errors: as of TextFile; FORMAT if no file
// holds text.
std::unique_ptr<DocumentReader> read_texts(const Tokenizer &tokenizer, const TextSettings &settings);

// Each line is a document, {"text": "...", "spans": [[begin, end, weight], ...], "links": [[from_begin, from_end,
// to_begin, to_end, weight], ...]}. Only the text must be there. Spans and links begin and end at bytes of its UTF-8.
//
//   spans  loss weights: a token has the weight of the last span that holds its last byte
//   links  supervision: the queries that predict the tokens in `from` should retrieve tokens in `to`, which lies
//          before it. Either range stands for all tokens that hold a byte of it. Where both have equally many, the
//          first is linked to the first, the second to the second, ...; else each of `from` to the last of `to`, which
//          has read all of it. Of links between the same two tokens the greatest weight counts. The offset of a token
//          is its index in its range
//
// Other fields are ignored. FORMAT names the file and the line that is not so.
std::unique_ptr<DocumentReader> read_jsonl(const Tokenizer &tokenizer, const TextSettings &settings);

}  // namespace infini
