// Lines that a person types, with libedit's keys and history where the command was built with it; lines of a pipe.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace cli {

class Editor {
 public:
  // `prompt` is shown where standard input and standard error are terminals.
  explicit Editor(std::string prompt);
  ~Editor();
  Editor(const Editor &) = delete;
  Editor &operator=(const Editor &) = delete;

  // A person types.
  bool interactive() const { return interactive_; }
  // The next line, without its end; nothing at the end of the input. Throws Cancelled after an interrupt.
  std::optional<std::string> line();

 private:
  struct Keys;
  std::optional<std::string> plain_line();

  std::string prompt_;
  bool interactive_;
  std::unique_ptr<Keys> keys_;  // libedit's state; null where lines come plain
  std::string read_;            // and has not been given yet
  bool ended_ = false;
};

}  // namespace cli
