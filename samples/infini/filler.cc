#include "filler.h"

#include <stdexcept>

#include "../../lib/adapt/passkey_words.h"
#include "input.h"

namespace cli {

Filler::Filler(const std::string &path, Draw &draw) {
  std::string text = path.empty() ? infini::kPasskeySentences : "";
  constexpr size_t kMost = 16 << 20;  // bytes that are used of a file
  if (!path.empty())
    Input(path).read(false, false, [&](std::string_view piece) {
      text += piece;
      return text.size() < kMost;
    });
  std::string sentence;
  bool space = true;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool blank = text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t';
    if (blank && !space) sentence += ' ';
    if (!blank) sentence += text[i];
    space = blank;
    const bool ends =
        sentence.size() > 1 && blank && std::string(".!?").find(sentence[sentence.size() - 2]) != std::string::npos;
    if (ends && sentence.size() > 4) {
      sentence.pop_back();
      sentences_.push_back(" " + sentence);
      sentence.clear();
    }
  }
  if (sentence.find_first_not_of(' ') != std::string::npos) sentences_.push_back(" " + sentence);
  if (sentences_.empty()) throw std::runtime_error(path + " holds no text: it cannot be filler");
  begin_anywhere(draw);
}

}  // namespace cli
