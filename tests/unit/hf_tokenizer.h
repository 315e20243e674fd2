// Vocabularies in memory: of a few tokens, and from the files that Hugging Face tokenizers come in.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "format/gguf.h"

namespace test {

constexpr uint32_t GGUF_I32 = 5, GGUF_F32 = 6, GGUF_STRING = 8, GGUF_F64 = 12;

template <class T>
infini::GgufArray array(uint32_t type, const std::vector<T> &values) {
  infini::GgufArray result{type, values.size(), std::vector<std::byte>(values.size() * sizeof(T)), {}};
  if (!values.empty()) std::memcpy(result.numbers.data(), values.data(), result.numbers.size());
  return result;
}
inline infini::GgufArray array(const std::vector<std::string> &values) {
  return {GGUF_STRING, values.size(), {}, values};
}
inline infini::GgufArray array(const std::vector<int32_t> &values) { return array(GGUF_I32, values); }
inline infini::GgufArray array(const std::vector<float> &values) { return array(GGUF_F32, values); }

// A byte-level BPE tokenizer; types as in GGUF (1 ordinary, 3 control, 4 user-defined).
inline infini::Gguf bpe_vocabulary(const std::string &pre, const std::vector<std::string> &tokens,
                                   const std::vector<int32_t> &types, const std::vector<std::string> &merges) {
  infini::Gguf gguf;
  gguf.set("tokenizer.ggml.model", std::string("gpt2"));
  gguf.set("tokenizer.ggml.pre", pre);
  gguf.set("tokenizer.ggml.tokens", array(tokens));
  gguf.set("tokenizer.ggml.token_type", array(types));
  gguf.set("tokenizer.ggml.merges", array(merges));
  return gguf;
}

inline std::string to_utf8(uint32_t c) {
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
  if (c < 0x10000)
    return {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
            static_cast<char>(0x80 | (c & 63))};
  return {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
          static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
}

// GPT-2's characters for the 256 bytes.
inline std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  uint32_t other = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    tokens.push_back(to_utf8(itself ? byte : other++));
  }
  return tokens;
}

// Byte b is id b; then 256 "ab", 257 "abc", 258 control "<|im_end|>", 259 user-defined "<u>", 260 user-defined "<u> x".
inline infini::Gguf small_bpe(const std::string &pre = "gpt-2") {
  std::vector<std::string> tokens = byte_tokens();
  for (const char *token : {"ab", "abc", "<|im_end|>", "<u>", "<u> x"}) tokens.push_back(token);
  std::vector<int32_t> types(256 + 2, 1);
  for (const int32_t type : {3, 4, 4}) types.push_back(type);
  return bpe_vocabulary(pre, tokens, types, {"a b", "ab c"});
}

// 0 <unk>, 1 <s>, 2 </s>, 3 to 258 the bytes, then the pieces with scores of their own.
inline infini::Gguf small_spm(const std::vector<std::pair<std::string, float>> &pieces, bool with_bytes = true) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  for (int byte = 0; byte < 256 && with_bytes; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    tokens.push_back(name);
    types.push_back(6);
  }
  std::vector<float> scores(tokens.size(), 0);
  for (const auto &[piece, score] : pieces) {
    tokens.push_back(piece);
    types.push_back(1);
    scores.push_back(score);
  }
  infini::Gguf gguf;
  gguf.set("tokenizer.ggml.model", std::string("llama"));
  gguf.set("tokenizer.ggml.tokens", array(tokens));
  gguf.set("tokenizer.ggml.token_type", array(types));
  gguf.set("tokenizer.ggml.scores", array(scores));
  gguf.set("tokenizer.ggml.bos_token_id", uint32_t{1});
  gguf.set("tokenizer.ggml.eos_token_id", uint32_t{2});
  return gguf;
}

// From a `tokenizer.json` with a BPE model. `pre` is not in that file.
inline infini::Gguf load_tokenizer_json(const std::string &path, const std::string &pre) {
  std::ifstream file(path);
  const nlohmann::json json = nlohmann::json::parse(file);
  std::map<int32_t, std::pair<std::string, int32_t>> by_id;
  for (const auto &[token, id] : json["model"]["vocab"].items()) by_id[id.get<int32_t>()] = {token, 1};
  for (const auto &added : json["added_tokens"])
    by_id[added["id"].get<int32_t>()] = {added["content"], added["special"].get<bool>() ? 3 : 4};
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types;
  for (const auto &[id, token] : by_id) {
    for (; static_cast<int32_t>(tokens.size()) < id; types.push_back(5)) tokens.push_back("");
    tokens.push_back(token.first);
    types.push_back(token.second);
  }
  for (const auto &merge : json["model"]["merges"])  // "a b", or since 2024 ["a", "b"]
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  return bpe_vocabulary(pre, tokens, types, merges);
}

// From GPT-2's own encoder.json and vocab.bpe.
inline infini::Gguf load_gpt2(const std::string &folder) {
  std::ifstream file(folder + "/encoder.json"), merge_file(folder + "/vocab.bpe");
  const nlohmann::json json = nlohmann::json::parse(file);
  std::vector<std::string> tokens(json.size()), merges;
  for (const auto &[token, id] : json.items()) tokens.at(id.get<size_t>()) = token;
  std::vector<int32_t> types(tokens.size(), 1);
  types.back() = 3;  // <|endoftext|>
  std::string line;
  std::getline(merge_file, line);  // "#version: 0.2"
  while (std::getline(merge_file, line)) merges.push_back(line);
  return bpe_vocabulary("gpt-2", tokens, types, merges);
}

// Valid UTF-8 of every length, with many spaces, digits and things that tokenizers treat apart.
inline std::string random_text(std::mt19937 &random, int characters, uint32_t beyond = 0x110000) {
  static const std::vector<std::string> pieces = {" ",   "  ",  "\n",  "\r\n", "\t", "'s",
                                                  "'RE", "the", " of", "1234", "<s>"};
  static const std::vector<std::string> odd = {std::string(1, '\0'),
                                               "</s>",
                                               "<0x0A>",
                                               "<|endoftext|>",
                                               "[PAD50277]",
                                               "\u00a0",
                                               "\u180e",
                                               "\u2003",
                                               "\u2581",
                                               "\u3000",
                                               "😶‍🌫️",
                                               "🦙",
                                               "é",
                                               "क्",
                                               "ſ"};
  std::string text;
  for (int i = 0; i < characters; ++i) {
    const uint32_t kind = random() % 8;
    if (kind < 2) text += pieces[random() % pieces.size()];
    if (kind == 2) text += odd[random() % odd.size()];
    if (kind == 3) text += to_utf8(random() % 0x80);
    if (kind == 4) text += to_utf8(0x80 + random() % (0x800 - 0x80));
    if (kind == 5) text += to_utf8(0x800 + random() % (0xd800 - 0x800));
    if (kind == 6) text += to_utf8(0x10000 + random() % (beyond - 0x10000));
    if (kind == 7) text += static_cast<char>('a' + random() % 26);
  }
  return text;
}

}  // namespace test
