#include "text/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "base/status.h"
#include "text/utf8.h"

namespace infini {
namespace {

// White space is spelt out, because PCRE2's \s has U+180E too, which the Unicode property, and so the engines that
// the expressions were written for, have not.
#define SPACES R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"
#define SPACE "[" SPACES "]"
#define NOT_SPACE "[^" SPACES "]"

// In every expression a space after anything but white space begins a new word: what TextStream's cuts rest on.
#define SPACE_RUNS SPACE "+(?!" NOT_SPACE ")|" SPACE "+"
#define LINE_ENDS SPACE R"(*[\r\n]+|)"
#define GPT2 R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" SPACES R"(\p{L}\p{N}]+|)" SPACE_RUNS
#define SUFFIXES R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define OTHERS(more) R"( ?[^)" SPACES R"(\p{L}\p{N}]+[\r\n)" more R"(]*|)" LINE_ENDS SPACE_RUNS
#define GPT4(digits) SUFFIXES R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits "|" OTHERS("")
// Words split where a capital follows a small letter.
#define CASED(suffixes, digits)                                                                          \
  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)" suffixes             \
  R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" suffixes "|" digits \
  "|" OTHERS("/")

struct Family {
  std::vector<const char *> names;
  std::vector<const char *> stages;
  bool whole_words = false, begins_with_bos = false;
};

const std::vector<Family> &families() {
  static const std::vector<Family> table = {
      {{"gpt-2", "mpt", "gpt-neox", "olmo", "phi-2", "jais", "exaone4", "trillion", "granite-docling", "mellum"},
       {GPT2}},
      {{"smollm", "starcoder", "refact", "codeshell", "command-r", "exaone", "minerva-7b"}, {R"(\p{N})", GPT2}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3"}, {GPT4(R"(\p{N}{1,3})")}, true, true},
      {{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, {GPT4(R"(\p{N}{1,3})")}},
      {{"qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan", "megrez"}, {GPT4(R"(\p{N})")}},
      {{"tekken"}, {CASED("", R"(\p{N})")}, true, true},
      {{"gpt-4o", "llama4"}, {CASED(SUFFIXES "?", R"(\p{N}{1,3})")}},
      {{"default"}, {R"([\p{P}$+<=>^~|]+)", GPT2, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
  return table;
}

// Those whose own tokenizer puts text in form NFC first, which GGUF has no key for.
constexpr std::string_view normalising[] = {"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "gpt-neox", "mpt",
                                            "olmo",  "command-r"};

std::string reason(int code) {
  PCRE2_UCHAR text[128] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char *>(text);
}

pcre2_code *compile(const char *expression) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code *code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (!code) fail(Status::INTERNAL, "the expression ", expression, " fails at ", offset, ": ", reason(error));
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, pcre2_match interprets
  return code;
}

}  // namespace

// What one call of split needs beside the compiled expressions.
struct Pretokenizer::Scan {
  const std::function<void(std::string_view)> &word;
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match;
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context;
};

void Pretokenizer::Free::operator()(pcre2_real_code_8 *code) const { pcre2_code_free(code); }

Pretokenizer::Pretokenizer(const std::string &name) {
  std::string known;
  for (const Family &family : families()) {
    if (std::find(family.names.begin(), family.names.end(), name) != family.names.end()) {
      for (const char *stage : family.stages) stages_.emplace_back(compile(stage));
      whole_words_ = family.whole_words;
      begins_with_bos_ = family.begins_with_bos;
      normalises_ = std::find(std::begin(normalising), std::end(normalising), name) != std::end(normalising);
      return;
    }
    for (const char *one : family.names) known += cat(known.empty() ? "" : ", ", one);
  }
  fail(Status::UNSUPPORTED, "unknown pre-tokenizer '", printable(name), "' (tokenizer.ggml.pre); known are ", known);
}

void Pretokenizer::split(std::string_view text, const std::function<void(std::string_view)> &word) const {
  Scan scan{word,
            {pcre2_match_data_create(1, nullptr), pcre2_match_data_free},
            {pcre2_match_context_create(nullptr), pcre2_match_context_free}};
  if (!scan.match || !scan.context) fail(Status::OUT_OF_MEMORY, "no memory to match a regular expression");
  // No expression looks at a character more than a few times in one match.
  pcre2_set_match_limit(scan.context.get(),
                        static_cast<uint32_t>(std::min<size_t>(1000 + 8 * text.size(), UINT32_MAX)));
  split(text, 0, scan);
}

void Pretokenizer::split(std::string_view text, size_t stage, Scan &scan) const {
  if (stage == stages_.size()) return scan.word(text);
  const PCRE2_SPTR subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE *const range = pcre2_get_ovector_pointer(scan.match.get());
  size_t begin = 0;
  while (begin < text.size()) {
    const int found = pcre2_match(stages_[stage].get(), subject, text.size(), begin, PCRE2_NO_UTF_CHECK,
                                  scan.match.get(), scan.context.get());
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
      fail(Status::INTERNAL, "a regular expression of the tokenizer failed at byte ", begin, ": ", reason(found));
    const size_t match_begin = found < 0 ? text.size() : range[0], match_end = found < 0 ? text.size() : range[1];
    if (match_begin > begin) split(text.substr(begin, match_begin - begin), stage + 1, scan);
    if (match_end > match_begin) split(text.substr(match_begin, match_end - match_begin), stage + 1, scan);
    begin = match_end;
  }
}

}  // namespace infini
