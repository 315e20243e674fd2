#include "train/document_files.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <tuple>

#include "base/options.h"
#include "base/schema.h"
#include "train/source_helpers.h"
#include "train/text_file.h"

namespace infini {
namespace {

using nlohmann::json;

void append_end(const Tokenizer &tokenizer, double weight, Document &piece) {
  if (tokenizer.eos() < 0 || (piece.begins && piece.tokens.empty())) return;
  piece.tokens.push_back(tokenizer.eos());
  piece.weight.push_back(static_cast<float>(weight));
}

// What both readers have: files in order, over and over, and the position in one of them.
class FileReader : public DocumentReader {
 public:
  FileReader(const Tokenizer &tokenizer, const TextSettings &settings) : tokenizer_(tokenizer), settings_(settings) {
    if (settings.files.empty()) fail(Status::INVALID_ARGUMENT, "a source of texts needs files");
  }

  std::string save() const override {
    return JsonObject().add("file", file_).add("offset", offset_).add("line", line_).text();
  }

  void restore(const std::string &state) override {
    const auto fields = parse_state(state);
    const auto number = [&](const char *name) {
      const auto found = fields->find(name);
      if (found == fields->end() || !found->is_number_unsigned() || found->get<uint64_t>() > INT64_MAX)
        fail(Status::FORMAT, "the position in the texts is damaged");
      return found->get<int64_t>();
    };
    const int64_t file = number("file"), offset = number("offset"), line = number("line");
    if (file >= static_cast<int64_t>(settings_.files.size()))
      fail(Status::FORMAT, "the position in the texts is in file ", file, ", but there are ", settings_.files.size());
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
  // The next file. Where no file holds text this is an error, or reading would never end.
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

  Document next() override {
    for (;;) {
      Document piece;
      piece.begins = offset_ == 0;
      const bool more = text_->next(tokenizer_, {.start = piece.begins, .unknown = settings_.unknown}, piece.tokens,
                                    &piece.unknown_bytes);
      offset_ = text_->offset();
      any_ |= !piece.tokens.empty();
      piece.weight.assign(piece.tokens.size(), static_cast<float>(settings_.weight));
      if (!more || offset_ >= text_->size()) {
        append_end(tokenizer_, settings_.weight, piece);
        open_next();
      }
      if (!piece.tokens.empty()) return piece;
    }
  }

 private:
  void open_file(const std::string &path, int64_t offset) override { text_ = std::make_unique<TextFile>(path, offset); }
  std::unique_ptr<TextFile> text_;  // the one before, where another cannot be opened
};

class JsonlReader : public FileReader {
 public:
  JsonlReader(const Tokenizer &tokenizer, const TextSettings &settings) : FileReader(tokenizer, settings) {
    open(0, 0);
  }

  Document next() override {
    for (std::string line;;) {
      if (!lines_->next(line)) {
        open_next();
        continue;
      }
      offset_ = lines_->offset();
      ++line_;
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      Document piece = read(line);
      if (piece.tokens.empty()) continue;
      any_ = true;
      return piece;
    }
  }

 private:
  // The tokens that hold a range of bytes.
  struct Tokens {
    int32_t first, count;
    int32_t last() const { return first + count - 1; }
  };
  static constexpr double kGreatest = 1e6;          // weight, label
  static constexpr size_t kMost = size_t{1} << 20;  // pairs of tokens that are linked, and tokens of values

  void open_file(const std::string &path, int64_t offset) override {
    lines_ = std::make_unique<LineFile>(path, offset);
  }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts &...parts) const {
    fail(Status::FORMAT, lines_->path(), ":", line_, ": ", parts...);
  }

  Document read(const std::string &line) const {
    OwnedJson<> parsed;
    try {
      parsed = parse_json(line, Status::INVALID_ARGUMENT, "the line");
    } catch (const Error &error) { refuse(error.what()); }
    const json &object = *parsed;
    if (!object.is_object()) refuse("not a JSON object");
    const auto text = object.find(settings_.field);
    if (text == object.end() || !text->is_string()) refuse("has no text '", settings_.field, "'");
    const auto &bytes = text->get_ref<const std::string &>();
    Document piece;
    std::vector<size_t> ends;
    try {
      piece.tokens = tokenizer_.encode(bytes, {.unknown = settings_.unknown, .ends = &ends}, &piece.unknown_bytes);
    } catch (const Error &error) { refuse(error.what()); }
    piece.weight.assign(piece.tokens.size(), static_cast<float>(settings_.weight));
    std::vector<int64_t> last;  // last byte of each token; -1: it holds none, such as a BOS token
    for (const size_t end : ends) last.push_back(static_cast<int64_t>(end) - 1);
    const auto list = [&](const char *name, const auto &read_list) {
      const auto found = object.find(name);
      if (found == object.end()) return;
      if (!found->is_array()) refuse("'", name, "' is not a list");
      read_list(*found);
    };
    list("spans", [&](const json &spans) { weigh(spans, bytes.size(), last, piece); });
    list("links", [&](const json &links) { add_links(links, bytes.size(), last, piece); });
    list("values", [&](const json &values) { add_values(values, bytes.size(), last, piece); });
    if (bytes.empty()) piece.tokens.clear();  // a BOS token alone teaches nothing
    append_end(tokenizer_, settings_.weight, piece);
    return piece;
  }

  // Whether elements `at` and at + 1 of a list are a range of bytes, [begin, end), of a text of `size` bytes.
  static bool is_range(const json &list, size_t at, size_t size) {
    return list[at].is_number_unsigned() && list[at + 1].is_number_unsigned() &&
           list[at].get<uint64_t>() <= list[at + 1].get<uint64_t>() && list[at + 1].get<uint64_t>() <= size;
  }
  static bool is_weight(const json &value) {
    return value.is_number() && value.get<double>() >= 0 && value.get<double>() <= kGreatest;
  }

  void weigh(const json &spans, size_t size, const std::vector<int64_t> &last, Document &piece) const {
    size_t number = 0;
    for (const json &span : spans) {
      if (!span.is_array() || span.size() != 3 || !is_range(span, 0, size) || !is_weight(span[2]))
        refuse("span ", number, " is not [begin, end, weight] within the text's ", size,
               " bytes, with a weight from 0 to 1000000");
      ++number;
    }
    // Of the spans over a token the last one counts. From the last to the first, so that each token is written once.
    std::vector<size_t> next(last.size() + 1);  // leads to the first token from there on that was not written yet
    std::iota(next.begin(), next.end(), size_t{0});
    const auto open_from = [&](size_t at) {
      while (next[at] != at) at = next[at] = next[next[at]];
      return at;
    };
    const auto token = [&](const json &byte) {  // the first that ends with this byte or a later one
      return static_cast<size_t>(std::ranges::lower_bound(last, byte.get<int64_t>()) - last.begin());
    };
    for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
      const size_t end = token((*span)[1]);
      for (size_t at = open_from(token((*span)[0])); at < end; at = open_from(at)) {
        piece.weight[at] = (*span)[2].get<float>();
        next[at] = at + 1;
      }
    }
  }

  static Tokens tokens_of(const json &list, size_t at, const std::vector<int64_t> &last) {
    const auto holds = [&](uint64_t byte) {
      const auto token = std::lower_bound(last.begin(), last.end(), static_cast<int64_t>(byte));
      return static_cast<int32_t>(std::min(token, last.end() - 1) - last.begin());
    };
    const int32_t first = holds(list[at].get<uint64_t>());
    return {first, holds(list[at + 1].get<uint64_t>() - 1) - first + 1};
  }

  // An entry of "links".
  struct LinkedRanges {
    Tokens from, to;
    std::string kind;
    float weight;
  };

  LinkedRanges read_link(const json &link, size_t number, size_t size, const std::vector<int64_t> &last) const {
    constexpr const char *kKinds = "answer|retrieval|local";
    const bool fits = link.is_array() && (link.size() == 5 || link.size() == 6) && is_range(link, 0, size) &&
                      is_range(link, 2, size) && is_weight(link[4]) && link[0] != link[1] && link[2] != link[3] &&
                      link[3].get<uint64_t>() <= link[0].get<uint64_t>();
    if (!fits)
      refuse("link ", number, " is not [from_begin, from_end, to_begin, to_end, weight] within the text's ", size,
             " bytes, neither part empty, the second before the first, with a weight from 0 to 1000000");
    const std::string kind = link.size() == 5 ? "answer" : link[5].is_string() ? link[5].get<std::string>() : "";
    if (!is_choice(kind, kKinds)) refuse("the kind of link ", number, " is not ", listed(kKinds));
    if (kind == "local" && link[4] != 1) refuse("link ", number, " is local, and its weight is not 1");
    return {tokens_of(link, 0, last), tokens_of(link, 2, last), kind, link[4].get<float>()};
  }

  // Ranges of equally many tokens are linked token by token; else every token to the last one of `to`.
  static void add_link(const LinkedRanges &link, Document &piece) {
    using Kind = DocumentLink::Kind;
    const auto &[from, to, kind, weight] = link;
    const bool local = kind == "local";
    if (!local)
      for (const Tokens &value : {to, from}) piece.add_value(value.first, value.count);
    for (int32_t i = local ? -1 : 0; i < from.count; ++i) {
      const int32_t token = from.first + i, found = !local && from.count == to.count ? to.first + i : to.last();
      if (found >= token) continue;  // one token holds both
      piece.links.push_back({local ? Kind::LOCAL : Kind::RETRIEVAL, token, found, weight});
      if (kind == "answer") piece.links.push_back({Kind::ANSWER, token, found});
    }
  }

  // Ascending. Of links of one kind between the same tokens the one that weighs most stays.
  static void order_links(std::vector<DocumentLink> &links) {
    const auto order = [](const DocumentLink &link) {
      return std::tuple(link.from, link.kind, -link.to, -link.weight);
    };
    std::ranges::sort(links, {}, order);
    const auto same = [](const DocumentLink &a, const DocumentLink &b) {
      return a.from == b.from && a.kind == b.kind && a.to == b.to;
    };
    links.erase(std::unique(links.begin(), links.end(), same), links.end());
  }

  void add_links(const json &links, size_t size, const std::vector<int64_t> &last, Document &piece) const {
    if (last.empty()) return;
    piece.supervised = true;
    size_t number = 0, pairs = 0;
    for (const json &entry : links) {
      const LinkedRanges link = read_link(entry, number++, size, last);
      if ((pairs += static_cast<size_t>(link.from.count)) > kMost)
        refuse("its links join more than ", kMost, " pairs of tokens");
      add_link(link, piece);
    }
    order_links(piece.links);
  }

  void add_values(const json &values, size_t size, const std::vector<int64_t> &last, Document &piece) const {
    if (last.empty()) return;
    piece.supervised = true;
    size_t number = 0, held = 0;
    for (const json &value : values) {
      if (!value.is_array() || value.size() != 3 || !is_range(value, 0, size) || value[0] == value[1] ||
          !value[2].is_number_unsigned() || !is_weight(value[2]))
        refuse("value ", number, " is not [begin, end, label] within the text's ", size,
               " bytes, not empty, with a label from 0 to 1000000");
      ++number;
      const Tokens tokens = tokens_of(value, 0, last);
      if ((held += static_cast<size_t>(tokens.count)) > kMost) refuse("its values hold more than ", kMost, " tokens");
      piece.add_value(tokens.first, tokens.count, value[2].get<int32_t>());
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

}  // namespace infini
