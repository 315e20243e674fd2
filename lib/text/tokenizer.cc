#include "text/tokenizer.h"

#include <algorithm>

#include "text/bpe.h"
#include "text/sentencepiece.h"
#include "text/special.h"
#include "text/utf8.h"

namespace infini {
namespace {

// Special tokens that end a turn or a text in the models of the day, whether or not the file says so.
constexpr std::string_view end_texts[] = {"<|im_end|>",      "<|eot_id|>",    "<|eom_id|>", "<|endoftext|>",
                                          "<|end_of_text|>", "<end_of_turn>", "</s>",       "<|end|>"};

}  // namespace

struct Tokenizer::Data {
  explicit Data(const Gguf &gguf);
  void check_id(int32_t id) const;

  Vocabulary vocabulary;
  std::string name, chat_template;
  std::unique_ptr<const TextModel> model;
  SpecialTokens special;
  std::vector<bool> ends;  // by id
  int32_t bos, eos;
  bool add_bos, space_prefix;
};

Tokenizer::Data::Data(const Gguf &gguf)
    : vocabulary(gguf), name(gguf.get_string("tokenizer.ggml.model")),
      chat_template(gguf.get_string("tokenizer.chat_template", "")), ends(vocabulary.pieces.size()),
      bos(vocabulary.id_of_key(gguf, "tokenizer.ggml.bos_token_id")),
      eos(vocabulary.id_of_key(gguf, "tokenizer.ggml.eos_token_id")) {
  if (name == "gpt2") {
    auto bpe = std::make_unique<Bpe>(gguf, vocabulary);
    add_bos = gguf.get_bool("tokenizer.ggml.add_bos_token", bpe->begins_with_bos());
    space_prefix = false;  // never with this model, whatever the file says: as everywhere
    model = std::move(bpe);
  } else if (name == "llama") {
    model = std::make_unique<SentencePiece>(gguf, vocabulary);
    add_bos = gguf.get_bool("tokenizer.ggml.add_bos_token", true);
    space_prefix = gguf.get_bool("tokenizer.ggml.add_space_prefix", true);
  } else {
    fail(Status::UNSUPPORTED, "unknown tokenizer model '", printable(name),
         "' (tokenizer.ggml.model); known are gpt2, llama");
  }

  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.is_special(id)) continue;
    const std::string &text = vocabulary.pieces[static_cast<size_t>(id)];
    special.add(text, id, vocabulary.of_type(id, TokenType::CONTROL));
    ends[static_cast<size_t>(id)] = std::count(std::begin(end_texts), std::end(end_texts), text) > 0;
  }
  for (const char *kind : {"eos", "eot", "eom"}) {
    const int32_t id = vocabulary.id_of_key(gguf, cat("tokenizer.ggml.", kind, "_token_id"));
    if (id >= 0) ends[static_cast<size_t>(id)] = true;
  }
}

void Tokenizer::Data::check_id(int32_t id) const {
  if (id < 0 || id >= vocabulary.size())
    fail(Status::INVALID_ARGUMENT, "token ", id, " is not in the vocabulary of ", vocabulary.size());
}

Tokenizer::Tokenizer(const Gguf &gguf) : data_(std::make_unique<const Data>(gguf)) {}
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, Encode how) const {
  if (text.size() > INT32_MAX)
    fail(Status::INVALID_ARGUMENT, "a text of ", text.size(), " bytes is too long to tokenize at once");
  const size_t invalid = find_invalid_utf8(text);
  if (invalid != text.npos) fail(Status::INVALID_ARGUMENT, "invalid UTF-8 at byte ", invalid);

  std::vector<int32_t> ids;
  if (how.start && data_->add_bos && data_->bos >= 0) ids.push_back(data_->bos);
  bool prefix = how.start && data_->space_prefix;
  const auto encode_plain = [&](std::string_view plain) {
    if (plain.empty()) return;
    prefix ? data_->model->encode(cat(' ', plain), ids) : data_->model->encode(plain, ids);
    prefix = false;
  };
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const SpecialTokens::Match match = data_->special.find(text.substr(at), how.special);
    if (match.size == 0) {
      ++at;
      continue;
    }
    encode_plain(text.substr(begin, at - begin));
    ids.push_back(match.id);
    prefix = data_->space_prefix;  // what follows a special token is tokenized as a text of its own
    begin = at += match.size;
  }
  encode_plain(text.substr(begin));
  return ids;
}

std::string Tokenizer::piece(int32_t id, bool special, bool start) const {
  data_->check_id(id);
  const Vocabulary &vocabulary = data_->vocabulary;
  const bool silent = vocabulary.of_type(id, TokenType::CONTROL) || vocabulary.of_type(id, TokenType::UNKNOWN);
  if (silent && !special) return "";
  const std::string &bytes = vocabulary.pieces[static_cast<size_t>(id)];
  const bool prefixed = start && data_->space_prefix && !vocabulary.is_special(id) && bytes.starts_with(' ');
  return bytes.substr(prefixed ? 1 : 0);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool special) const {
  std::string text;
  bool start = true;
  for (const int32_t id : ids) {
    text += piece(id, special, start);
    start = data_->vocabulary.is_special(id);
  }
  return text;
}

int32_t Tokenizer::size() const { return data_->vocabulary.size(); }
int32_t Tokenizer::bos() const { return data_->bos; }
int32_t Tokenizer::eos() const { return data_->eos; }

bool Tokenizer::is_end(int32_t id) const {
  data_->check_id(id);
  return data_->ends[static_cast<size_t>(id)];
}

bool Tokenizer::is_control(int32_t id) const {
  data_->check_id(id);
  return data_->vocabulary.of_type(id, TokenType::CONTROL);
}

const std::string &Tokenizer::model() const { return data_->name; }
const std::string &Tokenizer::chat_template() const { return data_->chat_template; }

std::vector<bool> sentence_ends(const Tokenizer &tokenizer) {
  std::vector<bool> ends(static_cast<size_t>(tokenizer.size()));
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const std::string piece = tokenizer.piece(id);
    const size_t last = piece.find_last_not_of(" \"')]");
    ends[static_cast<size_t>(id)] =
        tokenizer.is_end(id) || piece.find('\n') != std::string::npos ||
        (last != std::string::npos && std::string(".!?").find(piece[last]) != std::string::npos);
  }
  return ends;
}

}  // namespace infini
