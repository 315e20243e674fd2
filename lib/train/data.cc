#include "train/data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "train/source.h"
#include "train/text_file.h"

namespace infini {
namespace {

using nlohmann::json;

void append_end(const Tokenizer &tokenizer, double weight, DocumentPart &part) {
  part.ends = true;
  if (tokenizer.eos() < 0 || (part.begins && part.tokens.empty())) return;
  part.tokens.push_back(tokenizer.eos());
  part.weight.push_back(static_cast<float>(weight));
}

// What both readers have: files in order, over and over, and a place in one of them.
class FileReader : public DocumentReader {
 public:
  FileReader(const Tokenizer &tokenizer, const TextSettings &settings) : tokenizer_(tokenizer), settings_(settings) {
    if (settings.files.empty()) fail(Status::INVALID_ARGUMENT, "a source of texts needs files");
  }

  std::string save() const override { return json{{"file", file_}, {"offset", offset_}, {"line", line_}}.dump(); }

  void restore(const std::string &state) override {
    const json fields = parse_state(state);
    const auto number = [&](const char *name) {
      const auto found = fields.find(name);
      if (found == fields.end() || !found->is_number_unsigned() || found->get<uint64_t>() > INT64_MAX)
        fail(Status::FORMAT, "the place in the texts is damaged");
      return found->get<int64_t>();
    };
    const int64_t file = number("file"), offset = number("offset"), line = number("line");
    if (file >= static_cast<int64_t>(settings_.files.size()))
      fail(Status::FORMAT, "the place in the texts is in file ", file, ", but there are ", settings_.files.size());
    open(static_cast<size_t>(file), offset);
    line_ = line;
    any_ = true;
  }

 protected:
  virtual void open_file(const std::string &path, int64_t offset) = 0;

  void open(size_t file, int64_t offset) {
    open_file(settings_.files[file], offset);
    file_ = file;
    offset_ = offset;
    line_ = 0;
  }
  // The next file. That none of them holds text is an error, or the search would never end.
  void open_next() {
    if (file_ + 1 == settings_.files.size()) {
      if (!any_)
        fail(Status::FORMAT, settings_.files[0], settings_.files.size() > 1 ? " and the other files hold" : " holds",
             " no text");
      any_ = false;
    }
    open((file_ + 1) % settings_.files.size(), 0);
  }

  const Tokenizer &tokenizer_;
  TextSettings settings_;
  size_t file_ = 0;
  int64_t offset_ = 0, line_ = 0;
  bool any_ = false;  // text was found since the first file
};

class TextReader : public FileReader {
 public:
  TextReader(const Tokenizer &tokenizer, const TextSettings &settings) : FileReader(tokenizer, settings) { open(0, 0); }

  DocumentPart next() override {
    for (;;) {
      DocumentPart part;
      part.begins = offset_ == 0;
      const std::string piece = text_->next();
      offset_ = text_->offset();
      if (!piece.empty()) {
        any_ = true;
        part.tokens = tokenizer_.encode(piece, {.special = false, .start = part.begins});
        part.weight.assign(part.tokens.size(), static_cast<float>(settings_.weight));
      }
      if (piece.empty() || offset_ >= text_->size()) {
        append_end(tokenizer_, settings_.weight, part);
        open_next();
      }
      if (!part.tokens.empty()) return part;
    }
  }

 private:
  void open_file(const std::string &path, int64_t offset) override { text_ = std::make_unique<TextFile>(path, offset); }
  std::unique_ptr<TextFile> text_;  // as it was where another cannot be opened
};

class JsonlReader : public FileReader {
 public:
  JsonlReader(const Tokenizer &tokenizer, const TextSettings &settings) : FileReader(tokenizer, settings) {
    open(0, 0);
  }

  DocumentPart next() override {
    for (std::string line;;) {
      if (!lines_->next(line)) {
        open_next();
        continue;
      }
      offset_ = lines_->offset();
      ++line_;
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      DocumentPart part = read(line);
      if (part.tokens.empty()) continue;
      any_ = true;
      return part;
    }
  }

 private:
  struct Span {
    uint64_t begin, end;
    double weight;
  };

  void open_file(const std::string &path, int64_t offset) override {
    lines_ = std::make_unique<LineFile>(path, offset);
  }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts &...parts) const {
    fail(Status::FORMAT, lines_->path(), ":", line_, ": ", parts...);
  }

  DocumentPart read(const std::string &line) const {
    json object;
    try {
      object = parse_json(line, Status::INVALID_ARGUMENT, "the line");
    } catch (const Error &error) { refuse(error.what()); }
    if (!object.is_object()) refuse("not a JSON object");
    const auto text = object.find(settings_.field);
    if (text == object.end() || !text->is_string()) refuse("has no text '", settings_.field, "'");
    const auto &bytes = text->get_ref<const std::string &>();
    DocumentPart part;
    part.begins = true;
    part.tokens = tokenizer_.encode(bytes, {.special = false, .start = true});
    part.weight.assign(part.tokens.size(), static_cast<float>(settings_.weight));
    if (const auto spans = object.find("spans"); spans != object.end()) weigh(*spans, bytes, part);
    if (bytes.empty()) part.tokens.clear();  // a BOS token alone teaches nothing
    append_end(tokenizer_, settings_.weight, part);
    return part;
  }

  void weigh(const json &spans, const std::string &bytes, DocumentPart &part) const {
    const size_t size = bytes.size();
    if (!spans.is_array()) refuse("'spans' is not a list");
    std::vector<Span> checked;
    for (const json &span : spans) {
      const bool fits = span.is_array() && span.size() == 3 && span[0].is_number_unsigned() &&
                        span[1].is_number_unsigned() && span[0].get<uint64_t>() <= span[1].get<uint64_t>() &&
                        span[1].get<uint64_t>() <= size && span[2].is_number() && span[2].get<double>() >= 0 &&
                        span[2].get<double>() <= 1e6;
      if (!fits)
        refuse("span ", checked.size(), " is not [begin, end, weight] within the text's ", size,
               " bytes, with a weight from 0 to 1000000");
      checked.push_back({span[0].get<uint64_t>(), span[1].get<uint64_t>(), span[2].get<double>()});
    }
    // The last span over a byte counts. Each byte is written once, however many lie over it.
    std::vector<float> of_byte(size, static_cast<float>(settings_.weight));
    std::vector<size_t> next(size + 1);  // towards the first byte from there on that no later span has
    std::iota(next.begin(), next.end(), size_t{0});
    const auto open_from = [&](size_t at) {
      while (next[at] != at) at = next[at] = next[next[at]];
      return at;
    };
    for (auto span = checked.rbegin(); span != checked.rend(); ++span)
      for (size_t at = open_from(span->begin); at < span->end; at = open_from(at)) {
        of_byte[at] = static_cast<float>(span->weight);
        next[at] = at + 1;
      }
    size_t end = 0;
    bool lost = false;  // behind a token that does not say its bytes: one for what the vocabulary does not know
    for (size_t i = 0; i < part.tokens.size(); ++i) {
      // A piece that does not stand in the text has the space that the tokenizer puts before a text.
      std::string piece = tokenizer_.piece(part.tokens[i]);
      if (piece.empty() && !tokenizer_.is_control(part.tokens[i]) && end < size) {
        part.weight[i] = of_byte[end];
        lost = true;
        continue;
      }
      if (lost && !piece.empty())
        if (const size_t found = bytes.find(piece, end); found != bytes.npos) end = found;
      lost = false;
      if (bytes.compare(end, piece.size(), piece) != 0) piece = tokenizer_.piece(part.tokens[i], false, true);
      end = std::min(end + piece.size(), size);
      if (end > 0) part.weight[i] = of_byte[end - 1];
    }
  }

  std::unique_ptr<LineFile> lines_;
};

}  // namespace

std::unique_ptr<DocumentReader> read_texts(const Tokenizer &tokenizer, const TextSettings &settings) {
  return std::make_unique<TextReader>(tokenizer, settings);
}

std::unique_ptr<DocumentReader> read_jsonl(const Tokenizer &tokenizer, const TextSettings &settings) {
  return std::make_unique<JsonlReader>(tokenizer, settings);
}

// --- packed documents

Sequence PackedSource::next(int segment, int segments) {
  const auto total = static_cast<size_t>(sequence_size(segment, segments));
  Sequence out;
  while (out.tokens.size() < total) {
    if (at_ == part_.tokens.size()) {
      before_ = reader_->save();
      part_ = reader_->next();
      at_ = 0;
    }
    const size_t count = std::min(total - out.tokens.size(), part_.tokens.size() - at_), begin = out.tokens.size();
    const bool starts = part_.begins && at_ == 0;
    if (begin == 0 || starts) out.document.push_back(static_cast<int32_t>(begin));
    const auto first = static_cast<std::ptrdiff_t>(at_), last = static_cast<std::ptrdiff_t>(at_ + count);
    out.tokens.insert(out.tokens.end(), part_.tokens.begin() + first, part_.tokens.begin() + last);
    out.weight.insert(out.weight.end(), part_.weight.begin() + first, part_.weight.begin() + last);
    if (begin == 0 || starts) out.weight[begin] = 0;
    at_ += count;
  }
  out.answer.resize(total);
  return out;
}

std::string PackedSource::save() const {
  // Between two parts nothing is held: the reader's own place says it all.
  const bool between = at_ == part_.tokens.size();
  return json{{"reader", between ? reader_->save() : before_}, {"at", between ? 0 : at_}}.dump();
}

void PackedSource::restore(const std::string &state) {
  const json fields = parse_state(state);
  const auto reader = fields.find("reader"), at = fields.find("at");
  if (reader == fields.end() || !reader->is_string() || at == fields.end() || !at->is_number_unsigned())
    fail(Status::FORMAT, "the place in a source of texts is damaged");
  reader_->restore(reader->get<std::string>());
  before_ = reader->get<std::string>();
  part_ = {};
  at_ = 0;
  const auto taken = at->get<uint64_t>();
  if (taken == 0) return;
  part_ = reader_->next();
  if (taken > part_.tokens.size()) {
    part_ = {};
    fail(Status::FORMAT, "the place in a source of texts is not in them: were they changed?");
  }
  at_ = static_cast<size_t>(taken);
}

// --- excerpts

ExcerptSource::ExcerptSource(const Tokenizer &tokenizer, const TextSettings &settings, uint64_t seed)
    : tokenizer_(tokenizer), settings_(settings), random_(seed) {
  double end = 0;
  for (const std::string &path : settings.files) ends_.push_back(end += static_cast<double>(TextFile(path).size()));
  if (end == 0) fail(Status::INVALID_ARGUMENT, "a source of texts needs files that hold text");
}

Sequence ExcerptSource::next(int segment, int segments) {
  const auto total = static_cast<size_t>(sequence_size(segment, segments));
  Sequence out;
  for (int empty = 0; out.tokens.size() < total;) {
    const double place = random_.uniform() * ends_.back();
    const auto file = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), place) - ends_.begin());
    const auto offset = static_cast<int64_t>(place - (file > 0 ? ends_[file - 1] : 0));
    // Begins behind a space, or, where none is near, at the next character.
    std::string bytes;
    ByteFile(settings_.files[file], offset).read(bytes, 4096);
    size_t skip = bytes.find_first_of(" \n");
    if (skip == bytes.npos)
      skip = static_cast<size_t>(std::find_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xc0) != 0x80; }) -
                                 bytes.begin());
    TextFile text(settings_.files[file], offset + static_cast<int64_t>(std::min(skip, bytes.size())));
    const size_t begin = out.tokens.size();
    while (out.tokens.size() < total) {
      const std::string piece = text.next();
      if (piece.empty()) break;
      const std::vector<int32_t> ids =
          tokenizer_.encode(piece, {.special = false, .start = out.tokens.size() == begin});
      out.tokens.insert(out.tokens.end(), ids.begin(), ids.end());
    }
    if (out.tokens.size() > begin) out.document.push_back(static_cast<int32_t>(begin));
    else if (++empty == 1000) fail(Status::FORMAT, settings_.files[file], ": no text is left in it");
  }
  out.tokens.resize(total);
  out.answer.resize(total);
  out.weight.assign(total, static_cast<float>(settings_.weight));
  for (const int32_t start : out.document) out.weight[static_cast<size_t>(start)] = 0;
  return out;
}

std::string ExcerptSource::save() const { return json{{"random", save_random(random_)}}.dump(); }

void ExcerptSource::restore(const std::string &state) {
  restore_random(parse_state(state).value("random", json()), random_);
}

// --- mixtures

Mixture::Mixture(std::vector<Part> parts, uint64_t seed) : parts_(std::move(parts)), random_(seed) {
  double total = 0;
  for (const Part &part : parts_) {
    if (!(part.ratio >= 0) || !std::isfinite(part.ratio))
      fail(Status::INVALID_ARGUMENT, "a ratio of ", part.ratio, " in a mixture");
    total += part.ratio;
  }
  if (total <= 0) fail(Status::INVALID_ARGUMENT, "a mixture needs a source whose ratio is not 0");
}

Sequence Mixture::next(int segment, int segments) {
  double total = 0;
  for (const Part &part : parts_) total += part.ratio;
  double drawn = random_.uniform() * total;
  size_t chosen = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].ratio == 0) continue;
    chosen = i;  // the last one takes what rounding leaves
    if ((drawn -= parts_[i].ratio) < 0) break;
  }
  return parts_[chosen].source->next(segment, segments);
}

std::string Mixture::save() const {
  json states = json::array();
  for (const Part &part : parts_) states.push_back(part.source->save());
  return json{{"random", save_random(random_)}, {"sources", states}}.dump();
}

void Mixture::restore(const std::string &state) {
  const json fields = parse_state(state);
  const auto sources = fields.find("sources");
  const auto is_text = [](const json &item) { return item.is_string(); };
  if (sources == fields.end() || !sources->is_array() || sources->size() != parts_.size() ||
      !std::all_of(sources->begin(), sources->end(), is_text))
    fail(Status::FORMAT, "the state of a mixture does not have one for each of its ", parts_.size(), " sources");
  restore_random(fields.value("random", json()), random_);
  for (size_t i = 0; i < parts_.size(); ++i) parts_[i].source->restore((*sources)[i].get<std::string>());
}

}  // namespace infini
