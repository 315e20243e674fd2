// Text to words: the regular expressions that keep byte-pair merging within a word.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;

namespace infini {

class Pretokenizer {
 public:
  // By the value of tokenizer.ggml.pre. An unknown name is an UNSUPPORTED error that lists the known ones.
  explicit Pretokenizer(const std::string &name);

  // Calls `word` for the pieces of valid UTF-8, in order; together they are the text.
  void split(std::string_view text, const std::function<void(std::string_view)> &word) const;

  // A word that is a token is taken whole, whatever the merges say.
  bool whole_words() const { return whole_words_; }
  // Models of this family begin with BOS even where the file does not say so.
  bool begins_with_bos() const { return begins_with_bos_; }
  // Models of this name were trained on text in Unicode's normal form C.
  bool normalises() const { return normalises_; }

 private:
  struct Free {
    void operator()(pcre2_real_code_8 *code) const;
  };
  struct Scan;
  void split(std::string_view text, size_t stage, Scan &scan) const;

  // Stage by stage: matches and the gaps between them are the texts that the next stage splits.
  std::vector<std::unique_ptr<pcre2_real_code_8, Free>> stages_;
  bool whole_words_ = false, begins_with_bos_ = false, normalises_ = false;
};

}  // namespace infini
