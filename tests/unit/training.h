// What tests of training data share.
#pragma once

#include <string>

#include "base/status.h"
#include "support.h"
#include "text/tokenizer.h"

namespace test {

inline const std::string words_path = INFINI_SOURCE_DIR "/samples/models/words2048.gguf";
inline const std::string stories_path = INFINI_SOURCE_DIR "/samples/models/stories260K.gguf";
inline const std::string novel_path = INFINI_SOURCE_DIR "/samples/texts/wuthering_heights.txt";

// Byte-level BPE with a token for each of many common words.
inline const infini::Tokenizer &words() {
  static const infini::Tokenizer tokenizer(infini::Gguf::open(words_path));
  return tokenizer;
}

// SentencePiece, with BOS and the space before a text.
inline const infini::Tokenizer &stories() {
  static const infini::Tokenizer tokenizer(infini::Gguf::open(stories_path));
  return tokenizer;
}

// What an action says when it fails; "" if it does not.
template <class Action>
std::string error_of(const Action &action) {
  try {
    action();
  } catch (const infini::Error &error) { return error.what(); }
  return "";
}

}  // namespace test
