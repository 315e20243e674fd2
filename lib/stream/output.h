// The text of generated tokens on its way out: whole characters, stop strings withheld.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/utf8.h"

namespace infini {

class TextOutput {
 public:
  void set_stops(std::vector<std::string> stops) { stops_ = std::move(stops); }
  void start();  // forgets everything that is held
  // Adds one token's bytes. True: a stop string is complete; the text before it is ready, it and the rest are not.
  bool push(std::string_view bytes);
  // Nothing more comes: what was held back is ready.
  void finish();
  static constexpr size_t kMostReady = size_t{1} << 20;  // bytes, where nobody takes them
  void keep_newest();                                    // where there are more, half as many, in whole characters
  // Text that may be shown, each part given once.
  std::string take() { return std::exchange(ready_, {}); }
  const std::string &ready() const { return ready_; }

  // For snapshots: what is held back, and the bytes of an unfinished character.
  const std::string &held() const { return held_; }
  const std::string &pending() const { return characters_.pending(); }
  void restore(std::string ready, std::string held, std::string pending);

 private:
  std::vector<std::string> stops_;
  Utf8Stream characters_;
  std::string held_;  // may begin a stop string
  std::string ready_;
};

// The option `stop`: texts separated by newlines, with \n and \\ as escapes.
std::vector<std::string> parse_stops(const std::string &text);

}  // namespace infini
