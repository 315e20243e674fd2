// What the programs say of a model that has no memory.
#pragma once

#include <cstdint>
#include <string>

namespace cli {

// `path`: the model's file; `window`: the tokens that it sees.
inline std::string no_memory_notice(const std::string &path, int64_t window) {
  return path + " has no trained memory: it sees only its window of " + std::to_string(window) +
         " tokens. `infini train " + path + " --adapt` teaches it one.";
}

}  // namespace cli
