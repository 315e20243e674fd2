#include "text/vocabulary.h"

#include <algorithm>
#include <limits>

namespace infini {

Vocabulary::Vocabulary(const Gguf &gguf) : pieces(gguf.get_strings("tokenizer.ggml.tokens")) {
  if (pieces.empty() || pieces.size() >= static_cast<size_t>(std::numeric_limits<int32_t>::max()))
    fail(Status::FORMAT, "tokenizer.ggml.tokens has ", pieces.size(), " entries");
  types.assign(pieces.size(), TokenType::NORMAL);
  bytes.fill(-1);
  if (!gguf.find("tokenizer.ggml.token_type")) return;
  const std::vector<int64_t> numbers = gguf.get_ints("tokenizer.ggml.token_type");
  if (numbers.size() != pieces.size())
    fail(Status::FORMAT, "tokenizer.ggml.token_type has ", numbers.size(), " entries for ", pieces.size(), " tokens");
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] < 0 || numbers[i] > 6)
      fail(Status::FORMAT, "tokenizer.ggml.token_type: token ", i, " is of type ", numbers[i], ", not 0 to 6");
    if (numbers[i] != 0) types[i] = static_cast<TokenType>(numbers[i]);  // 0, undefined, is as good as ordinary
  }
}

bool Vocabulary::has_bytes(std::string_view text) const {
  return std::all_of(text.begin(), text.end(), [this](char c) { return bytes[static_cast<unsigned char>(c)] >= 0; });
}

bool Vocabulary::has_all_bytes() const {
  for (size_t byte = 0; byte <= 0xf4; ++byte)
    if (byte != 0xc0 && byte != 0xc1 && bytes[byte] < 0) return false;
  return true;
}

int32_t Vocabulary::id_of_key(const Gguf &gguf, const std::string &key) const {
  if (!gguf.find(key)) return -1;
  const int64_t id = gguf.get_int(key);
  if (id == -1 || id == 0xffffffff) return -1;  // how some converters write that there is none
  if (id < 0 || id >= size()) fail(Status::FORMAT, key, " is ", id, "; the vocabulary has ", size(), " tokens");
  return static_cast<int32_t>(id);
}

}  // namespace infini
