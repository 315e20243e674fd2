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

// Each line is a document, as infini_train.h says of data of the type "jsonl". Other fields are ignored. FORMAT names
// the file and the line that is not so.
std::unique_ptr<DocumentReader> read_jsonl(const Tokenizer &tokenizer, const TextSettings &settings);

}  // namespace infini
