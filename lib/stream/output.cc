#include "stream/output.h"

#include <algorithm>
#include <utility>

namespace infini {

void TextOutput::start() {
  characters_ = Utf8Stream();
  held_.clear();
  ready_.clear();
}

bool TextOutput::push(std::string_view bytes) {
  held_ += characters_.push(bytes);
  size_t first = std::string::npos;
  for (const std::string &stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    ready_.append(held_, 0, first);
    held_.clear();
    return true;
  }
  // The longest end of the text that begins some stop string stays back.
  size_t back = 0;
  for (const std::string &stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > back; --length) {
      if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, length))) {
        back = length;
        break;
      }
    }
  }
  ready_.append(held_, 0, held_.size() - back);
  held_.erase(0, held_.size() - back);
  return false;
}

void TextOutput::finish() {
  ready_ += held_ + characters_.finish();
  held_.clear();
}

void TextOutput::keep_newest() {
  if (ready_.size() <= kMostReady) return;
  size_t from = ready_.size() - kMostReady / 2;
  while (from < ready_.size() && (ready_[from] & 0xc0) == 0x80) ++from;
  ready_.erase(0, from);
}

void TextOutput::restore(std::string ready, std::string held, std::string pending) {
  start();
  ready_ = std::move(ready);
  held_ = std::move(held);
  characters_.set_pending(std::move(pending));
}

std::vector<std::string> parse_stops(const std::string &text) {
  std::vector<std::string> stops(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') stops.emplace_back();
    else if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == 'n') stops.back() += '\n', ++i;
    else if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '\\') stops.back() += '\\', ++i;
    else stops.back() += text[i];
  }
  std::erase(stops, "");
  return stops;
}

}  // namespace infini
