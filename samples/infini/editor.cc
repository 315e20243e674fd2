#include "editor.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "progress.h"
#include "system.h"

#ifdef INFINI_LIBEDIT
#include <histedit.h>
#include <langinfo.h>

#include <clocale>
#include <cstring>
#include <cwchar>
#endif

namespace cli {

#ifdef INFINI_LIBEDIT

struct Editor::Keys {
  explicit Keys(const std::string &shown) : prompt(shown) {
    // libedit takes characters by the locale; the library is indifferent to it.
    if (!std::setlocale(LC_CTYPE, "") || std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
      std::setlocale(LC_CTYPE, "C.UTF-8");
    lines = history_init();
    history(lines, &event, H_SETSIZE, 1000);
    edit = el_init("infini", stdin, stderr, stderr);
    if (!edit) return;
    el_set(edit, EL_CLIENTDATA, this);
    el_set(
        edit, EL_PROMPT, +[](EditLine *line) {
          Keys *keys = nullptr;
          el_get(line, EL_CLIENTDATA, &keys);
          return keys->prompt.data();
        });
    el_set(edit, EL_GETCFN, next);
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_HIST, history, lines);
    el_set(edit, EL_BIND, "^[[A", "ed-prev-history", nullptr);
    el_set(edit, EL_BIND, "^[[B", "ed-next-history", nullptr);
    el_source(edit, nullptr);  // ~/.editrc
  }
  ~Keys() {
    if (edit) el_end(edit);
    history_end(lines);
  }

  // The next letter. libedit's own reading would miss an interrupt that comes just before it waits.
  static int next(EditLine *, wchar_t *letter) {
    std::mbstate_t state = {};
    for (;;) {
      char byte;
      try {
        if (read_some(STDIN_FILENO, &byte, 1, "the terminal") == 0) return 0;
      } catch (const std::exception &) { return -1; }
      const size_t size = std::mbrtowc(letter, &byte, 1, &state);
      if (size == static_cast<size_t>(-2)) continue;
      if (size == static_cast<size_t>(-1)) *letter = L'\uFFFD';  // of no character
      if (size == 0) *letter = 'D' & 0x1f;  // how a terminal keeps a Ctrl-D that was typed while no line was edited
      return 1;
    }
  }

  std::string prompt;
  History *lines;
  HistEvent event = {};
  EditLine *edit = nullptr;
};

#else

struct Editor::Keys {
  explicit Keys(const std::string &) {}
};

#endif

Editor::Editor(std::string prompt)
    : prompt_(std::move(prompt)), interactive_(is_terminal(STDIN_FILENO) && is_terminal(STDERR_FILENO)) {
#ifdef INFINI_LIBEDIT
  if (interactive_) keys_ = std::make_unique<Keys>(prompt_);
  if (keys_ && !keys_->edit) keys_.reset();
#endif
}

Editor::~Editor() = default;

std::optional<std::string> Editor::line() {
  if (interrupted()) throw Cancelled();
#ifdef INFINI_LIBEDIT
  if (keys_) {
    int size = 0;
    el_set(keys_->edit, EL_PREP_TERM, 1);  // before the prompt is shown: what is typed at once is edited too
    const char *const text = el_gets(keys_->edit, &size);
    if (interrupted()) {
      std::fputs("\n", stderr);
      throw Cancelled();
    }
    if (!text || size <= 0) return std::nullopt;
    std::string line(text, static_cast<size_t>(size));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    if (!line.empty()) history(keys_->lines, &keys_->event, H_ENTER, line.c_str());
    return line;
  }
#endif
  return plain_line();
}

std::optional<std::string> Editor::plain_line() {
  if (interactive_) std::fputs(prompt_.c_str(), stderr);
  char data[4096];
  size_t end;
  while ((end = read_.find('\n')) == std::string::npos && !ended_) {
    const size_t size = read_some(STDIN_FILENO, data, sizeof data, "standard input");
    read_.append(data, size);
    ended_ = size == 0;
  }
  if (end == std::string::npos && read_.empty()) return std::nullopt;
  std::string line = read_.substr(0, end);
  read_.erase(0, end == std::string::npos ? end : end + 1);
  while (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

}  // namespace cli
