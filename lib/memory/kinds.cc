#include <algorithm>
#include <mutex>

#include "base/options.h"
#include "memory/kind.h"

namespace infini {
namespace {

struct Kinds {
  std::mutex mutex;
  std::vector<const MemoryKind *> all = {&linear_memory(), &delta_memory()};
};

Kinds &kinds() {
  static auto &kinds = *new Kinds;  // never destroyed: a thread may be at work when the process ends
  return kinds;
}

[[maybe_unused]] const bool option_knows_them = [] {
  add_option_choices("update", memory_kind_choices);
  return true;
}();

}  // namespace

const MemoryKind *find_memory_kind(const std::string &name) {
  const std::lock_guard lock(kinds().mutex);
  const auto found = std::find_if(kinds().all.begin(), kinds().all.end(),
                                  [&](const MemoryKind *kind) { return name == kind->name(); });
  return found == kinds().all.end() ? nullptr : *found;
}

std::vector<std::string> memory_kind_names() {
  const std::lock_guard lock(kinds().mutex);
  std::vector<std::string> names;
  for (const MemoryKind *kind : kinds().all) names.emplace_back(kind->name());
  return names;
}

std::string memory_kind_choices() {
  std::string list;
  for (const std::string &name : memory_kind_names()) list += (list.empty() ? "" : "|") + name;
  return list;
}

const MemoryKind &default_memory() { return delta_memory(); }

void add_memory_kind(const MemoryKind &kind) {
  const std::lock_guard lock(kinds().mutex);
  kinds().all.push_back(&kind);
}

}  // namespace infini
