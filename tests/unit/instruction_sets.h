// Kernels on each instruction set of this processor.
#pragma once

#include <doctest/doctest.h>

#include <cstdio>
#include <initializer_list>
#include <set>
#include <string>
#include <utility>

#include "base/testing.h"
#include "kernels/cpu.h"

namespace test {

// check() under each limit that this processor has; the others, whose kernels would be those of another one, are said to
// be skipped, once a program.
template <class Check>
void on_every_instruction_set(std::initializer_list<const char *> limits, const Check &check) {
  static std::set<std::string> said;
  std::set<std::pair<std::string, bool>> done;
  for (const char *limit : limits) {
    infini::limit_instruction_set(limit);
    if (!done.emplace(infini::instruction_set(), infini::has_byte_dot()).second) {
      if (said.insert(limit).second)
        std::printf("skipped: kernels as on \"%s\": not on this processor, or no others than before\n", limit);
      continue;
    }
    CAPTURE(std::string(limit));
    check();
  }
  infini::limit_instruction_set("best");
}

}  // namespace test
