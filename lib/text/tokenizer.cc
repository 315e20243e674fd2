#include "text/tokenizer.h"

#include <algorithm>
#include <functional>

#include "text/bpe.h"
#include "text/nfc.h"
#include "text/sentencepiece.h"
#include "text/special.h"
#include "text/utf8.h"

namespace infini {
namespace {

// Special tokens that end a turn or a text in the models of the day, whether or not the file says so.
constexpr std::string_view end_texts[] = {"<|im_end|>",      "<|eot_id|>",    "<|eom_id|>", "<|endoftext|>",
                                          "<|end_of_text|>", "<end_of_turn>", "</s>",       "<|end|>"};

}  // namespace

UnknownText unknown_text_of(std::string_view name) {
  if (name == "skip") return UnknownText::SKIP;
  if (name == "replace") return UnknownText::REPLACE;
  if (name == "error") return UnknownText::FAIL;
  fail(Status::INVALID_ARGUMENT, "'unknown_text' is '", printable(name), "', but must be error, skip or replace");
}

struct Tokenizer::Data {
  explicit Data(const Gguf &gguf);
  void check_id(int32_t id) const;
  void encode_plain(std::string_view text, size_t begin, bool prefix, const Encode &how, std::vector<int32_t> &ids,
                    int64_t *unknown_bytes) const;
  std::string_view express(std::string_view run, const std::function<size_t(size_t)> &offset_of, UnknownText unknown,
                           std::string &room, Edits &edits, int64_t *unknown_bytes) const;

  Vocabulary vocabulary;
  std::string name, chat_template, replacement;
  std::unique_ptr<const TextModel> model;
  SpecialTokens special;
  std::vector<bool> ends;  // by id
  int32_t bos, eos;
  bool add_bos, space_prefix, normalises = false;
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
    normalises = bpe->normalises();
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
    const std::string &text = vocabulary.pieces[id];
    ends[id] = std::count(std::begin(end_texts), std::end(end_texts), text) > 0;
  }
  for (const char *kind : {"eos", "eot", "eom"}) {
    const int32_t id = vocabulary.id_of_key(gguf, cat("tokenizer.ggml.", kind, "_token_id"));
    if (id >= 0) ends[id] = true;
  }
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const bool control = vocabulary.of_type(id, TokenType::CONTROL);
    if (vocabulary.is_special(id)) special.add(vocabulary.pieces[id], id, control, control || ends[id]);
  }
  const auto has = [this](std::string_view character) { return model->expresses(character); };
  replacement = has("\ufffd") ? "\ufffd" : has("?") ? "?" : "";
}

// A run of text without special tokens, of which characters without a token are replaced or left out: the run itself
// where all have tokens, else a new text in `room`. offset_of: the byte that errors name for one of the run.
std::string_view Tokenizer::Data::express(std::string_view run, const std::function<size_t(size_t)> &offset_of,
                                          UnknownText unknown, std::string &room, Edits &edits,
                                          int64_t *unknown_bytes) const {
  if (model->complete()) return run;
  room.clear();
  size_t kept = 0;
  for (size_t at = 0, size; at < run.size(); at += size) {
    size = utf8_size(run[at]);
    if (model->expresses(run.substr(at, size))) continue;
    if (unknown == UnknownText::FAIL)
      fail(Status::INVALID_ARGUMENT, "the vocabulary has no token for ", utf8_name(run.substr(at, size)), ", at byte ",
           offset_of(at), " of the text; 'unknown_text', of a session or of training, skips or replaces it");
    room.append(run, kept, at - kept);
    const size_t begin = room.size();
    if (unknown == UnknownText::REPLACE) room += replacement;
    if (unknown_bytes) *unknown_bytes += static_cast<int64_t>(size);
    kept = at + size;
    edits.add(begin, room.size(), kept);
  }
  if (kept == 0) return run;
  return room.append(run, kept);
}

// Text without special tokens, which begins at byte `begin` of the whole.
void Tokenizer::Data::encode_plain(std::string_view text, size_t begin, bool prefix, const Encode &how,
                                   std::vector<int32_t> &ids, int64_t *unknown_bytes) const {
  std::string normal, known, prefixed;
  Edits normalised, replaced;
  if (normalises) text = nfc(text, normal, normalised);
  const auto offset_of = [&](size_t at) { return how.offset + begin + normalised.origin(at); };
  text = express(text, offset_of, how.unknown, known, replaced, unknown_bytes);
  if (text.empty()) return;
  if (prefix) text = prefixed = cat(' ', text);
  const size_t first = ids.size();
  model->encode(text, ids);
  if (!how.ends) return;
  size_t end = 0;
  bool lost = false;  // behind an unknown token, which does not say how many bytes it stands for
  for (size_t i = first; i < ids.size(); ++i) {
    const std::string &piece = vocabulary.pieces[ids[i]];
    const bool silent = vocabulary.of_type(ids[i], TokenType::UNKNOWN);
    if (lost && !silent) end = std::min(text.find(piece, end), text.size());
    lost = silent;
    const size_t own = silent ? utf8_size(text[std::min(end, text.size() - 1)]) : piece.size();
    const size_t shown = std::min(end + own, text.size()) - (prefix ? 1 : 0);
    how.ends->push_back(begin + normalised.origin(replaced.origin(shown)));
    if (!silent) end += own;
  }
}

void Tokenizer::Data::check_id(int32_t id) const {
  if (id < 0 || id >= vocabulary.size())
    fail(Status::INVALID_ARGUMENT, "token ", id, " is not in the vocabulary of ", vocabulary.size());
}

Tokenizer::Tokenizer(const Gguf &gguf) : data_(std::make_unique<const Data>(gguf)) {}
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, Encode how, int64_t *unknown_bytes) const {
  if (text.size() > INT32_MAX)
    fail(Status::INVALID_ARGUMENT, "a text of ", text.size(), " bytes is too long to tokenize at once");
  const size_t invalid = find_invalid_utf8(text);
  if (invalid != text.npos) fail(Status::INVALID_ARGUMENT, "invalid UTF-8 at byte ", invalid);

  std::vector<int32_t> ids;
  const auto put = [&](int32_t id, size_t end) {
    ids.push_back(id);
    if (how.ends) how.ends->push_back(end);
  };
  if (how.ends) how.ends->clear();
  if (how.start && data_->add_bos && data_->bos >= 0) put(data_->bos, 0);
  bool prefix = how.start && data_->space_prefix;
  const auto encode_plain = [&](size_t begin, size_t end) {
    const size_t before = ids.size();
    data_->encode_plain(text.substr(begin, end - begin), begin, prefix, how, ids, unknown_bytes);
    if (ids.size() > before) prefix = false;
  };
  size_t begin = 0;
  auto content = how.contents.begin();
  for (size_t at = 0; at < text.size();) {
    while (content != how.contents.end() && content->end <= at) ++content;
    const size_t open = content == how.contents.end() ? text.size() : std::max(content->begin, at) - at;
    const SpecialTokens::Match match = data_->special.find(text.substr(at), how.special, open);
    if (match.size == 0) {
      ++at;
      continue;
    }
    encode_plain(begin, at);
    begin = at += match.size;
    put(match.id, at);
    prefix = data_->space_prefix && ends_text(match.id);
  }
  encode_plain(begin, text.size());
  return ids;
}

std::string Tokenizer::piece(int32_t id, bool special, bool start) const {
  data_->check_id(id);
  const Vocabulary &vocabulary = data_->vocabulary;
  const bool silent = vocabulary.of_type(id, TokenType::CONTROL) || vocabulary.of_type(id, TokenType::UNKNOWN);
  if (silent && !special) return "";
  const std::string &bytes = vocabulary.pieces[id];
  const bool prefixed = start && data_->space_prefix && !vocabulary.is_special(id) && bytes.starts_with(' ');
  return bytes.substr(prefixed ? 1 : 0);
}

bool Tokenizer::ends_text(int32_t id) const {
  data_->check_id(id);
  return data_->vocabulary.is_special(id);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool special, bool start) const {
  if (start && data_->add_bos && !ids.empty() && ids[0] == data_->bos) ids = ids.subspan(1);
  std::string text;
  for (const int32_t id : ids) {
    text += piece(id, special, start);
    start = ends_text(id);
  }
  return text;
}

int32_t Tokenizer::size() const { return data_->vocabulary.size(); }
int32_t Tokenizer::bos() const { return data_->bos; }
int32_t Tokenizer::eos() const { return data_->eos; }

bool Tokenizer::is_end(int32_t id) const {
  data_->check_id(id);
  return data_->ends[id];
}

bool Tokenizer::is_control(int32_t id) const {
  data_->check_id(id);
  return data_->vocabulary.of_type(id, TokenType::CONTROL);
}

bool Tokenizer::normalises() const { return data_->normalises; }
const std::string &Tokenizer::model() const { return data_->name; }
const std::string &Tokenizer::chat_template() const { return data_->chat_template; }

std::vector<bool> sentence_ends(const Tokenizer &tokenizer) {
  std::vector<bool> ends(static_cast<size_t>(tokenizer.size()));
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const std::string piece = tokenizer.piece(id);
    const size_t last = piece.find_last_not_of(" \"')]");
    ends[id] = tokenizer.is_end(id) || piece.find('\n') != std::string::npos ||
               (last != std::string::npos && std::string(".!?").find(piece[last]) != std::string::npos);
  }
  return ends;
}

}  // namespace infini
