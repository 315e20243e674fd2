// Documents from files: of plain text, and of lines of JSON that may give loss weights (spans) and supervision (links,
// values).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "train/document.h"

namespace infini {

// Documents one after the other, for ever.
class DocumentReader {
 public:
  virtual ~DocumentReader() = default;
  virtual Document next() = 0;                         // or a part of one
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
// to_begin, to_end, weight], ...], "values": [[begin, end, label], ...]}. Only the text must be there. Numbers but
// weights and labels are bytes of its UTF-8; a range of them stands for all tokens that hold a byte of it.
//
//   spans   loss weights: a token has the weight of the last span that holds its last byte
//   links   supervision: the tokens in `from` are an answer, and the queries that predict them should retrieve tokens
//           in `to`, which lies before it. Where both have equally many, the first is linked to the first, the second
//           to the second, ...; else each of `from` to the last of `to`, which has read all of it. Of links between the
//           same two tokens the greatest weight counts. Either range is a value. Behind the weight may stand a kind:
//             "answer"     that; also where none stands
//             "retrieval"  the same, but it is no answer that is counted
//             "local"      local attention at `from`, and at the token before it, should fall on the last of `to`;
//                          the weight is 1, and the ranges are no values
//   values  the tokens of a value, which are numbered from 0 (the offsets of heads), and its class
//           (Sequence::label), such as a number for its name
//
// Other fields are ignored. FORMAT names the file and the line that is not so.
std::unique_ptr<DocumentReader> read_jsonl(const Tokenizer &tokenizer, const TextSettings &settings);

}  // namespace infini
