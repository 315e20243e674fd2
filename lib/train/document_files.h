// Documents from files: of plain text, and of lines of JSON that may give loss weights (spans) and supervision (links,
// values).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "train/document.h"

namespace infini {

// Documents one after the other, the files over and over.
class DocumentReader {
 public:
  virtual ~DocumentReader() = default;
  virtual Document next() = 0;                         // the next document, or the next piece of one
  virtual std::string save() const = 0;                // the position in the files, from which next() continues
  virtual void restore(const std::string &state) = 0;  // FORMAT
};

struct TextSettings {
  std::vector<std::string> files;
  double weight = 1;           // loss weight of each token; in JSONL of those outside all spans
  std::string field = "text";  // of a line of JSONL, which holds its text
  UnknownText unknown = UnknownText::FAIL;
};

// Each file is a document, which ends with the model's end token, where it has one. Errors: as of TextFile; FORMAT if
// no file holds text.
std::unique_ptr<DocumentReader> read_texts(const Tokenizer &tokenizer, const TextSettings &settings);

// Each line is a document, as infini_train.h says of data of the type "jsonl"; other fields are ignored. FORMAT for a
// line that is not, with the file and the number of the line.
std::unique_ptr<DocumentReader> read_jsonl(const Tokenizer &tokenizer, const TextSettings &settings);

}  // namespace infini
