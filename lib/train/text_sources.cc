#include "train/text_sources.h"

#include <algorithm>
#include <cmath>

#include "train/source_helpers.h"
#include "train/text_file.h"

namespace infini {

using nlohmann::json;

// --- packed documents

Sequence PackedSource::next(int segment, int segments) {
  const auto total = static_cast<size_t>(sequence_size(segment, segments));
  Sequence out;
  while (out.tokens.size() < total) {
    if (at_ == piece_.tokens.size()) {
      before_ = reader_->save();
      piece_ = reader_->next();
      at_ = 0;
    }
    const size_t count = std::min(total - out.tokens.size(), piece_.tokens.size() - at_);
    append(piece_, at_, count, segment, carry_, out);
    at_ += count;
  }
  return out;
}

std::string PackedSource::save() const {
  // Between two pieces nothing is held: the reader's own state says it all.
  const bool between = at_ == piece_.tokens.size();
  return JsonObject().add("reader", between ? reader_->save() : before_).add("at", between ? 0 : at_).text();
}

void PackedSource::restore(const std::string &state) {
  const auto fields = parse_state(state);
  const auto reader = fields->find("reader"), at = fields->find("at");
  if (reader == fields->end() || !reader->is_string() || at == fields->end() || !at->is_number_unsigned())
    fail(Status::FORMAT, "the state of a source of texts is damaged");
  reader_->restore(reader->get<std::string>());
  before_ = reader->get<std::string>();
  piece_ = {};
  at_ = 0;
  const auto taken = at->get<uint64_t>();
  if (taken == 0) return;
  piece_ = reader_->next();
  if (taken > piece_.tokens.size()) {
    piece_ = {};
    fail(Status::FORMAT, "the state of a source of texts leads behind their end: were they changed?");
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
    const double byte = random_.uniform() * ends_.back();
    const auto file = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), byte) - ends_.begin());
    const auto offset = static_cast<int64_t>(byte - (file > 0 ? ends_[file - 1] : 0));
    // It begins at a space or line end or, where none is near, at the next character.
    std::string bytes;
    ByteFile(settings_.files[file], offset).read(bytes, 4096);
    size_t skip = bytes.find_first_of(" \n");
    if (skip == bytes.npos)
      skip = static_cast<size_t>(std::find_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xc0) != 0x80; }) -
                                 bytes.begin());
    TextFile text(settings_.files[file], offset + static_cast<int64_t>(std::min(skip, bytes.size())));
    Document excerpt;
    const size_t room = total - out.tokens.size();
    while (excerpt.tokens.size() < room &&
           text.next(tokenizer_, {.start = excerpt.tokens.empty(), .unknown = settings_.unknown}, excerpt.tokens,
                     &excerpt.unknown_bytes)) {}
    if (excerpt.tokens.empty() && ++empty == 1000)
      fail(Status::FORMAT, settings_.files[file], ": no text is left in it");
    excerpt.weight.assign(excerpt.tokens.size(), static_cast<float>(settings_.weight));
    append(excerpt, 0, std::min(room, excerpt.tokens.size()), segment, 0, out);
  }
  return out;
}

std::string ExcerptSource::save() const { return save_random(random_); }

void ExcerptSource::restore(const std::string &state) { restore_random(*parse_state(state), random_); }

// --- mixtures

MixedSource::MixedSource(std::vector<Part> parts, uint64_t seed) : parts_(std::move(parts)), random_(seed) {
  double total = 0;
  for (const Part &part : parts_) {
    if (!(part.ratio >= 0) || !std::isfinite(part.ratio))
      fail(Status::INVALID_ARGUMENT, "a ratio of ", part.ratio, " in a mixture");
    total += part.ratio;
  }
  if (total <= 0) fail(Status::INVALID_ARGUMENT, "a mixture needs a source whose ratio is not 0");
}

Sequence MixedSource::next(int segment, int segments) {
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

std::string MixedSource::save() const {
  JsonList states;
  for (const Part &part : parts_) states.add(part.source->save());
  return JsonObject().add("random", random_.state()).add("sources", states).text();
}

void MixedSource::restore(const std::string &state) {
  const auto fields = parse_state(state);
  const auto sources = fields->find("sources");
  const auto is_text = [](const json &item) { return item.is_string(); };
  if (sources == fields->end() || !sources->is_array() || sources->size() != parts_.size() ||
      !std::all_of(sources->begin(), sources->end(), is_text))
    fail(Status::FORMAT, "the state of a mixture does not have one for each of its ", parts_.size(), " sources");
  restore_random(*fields, random_);
  for (size_t i = 0; i < parts_.size(); ++i) parts_[i].source->restore((*sources)[i].get<std::string>());
}

}  // namespace infini
