// For a portable build: what the compiler's static libraries ask of a newer C library than a user may have.
#if INFINI_PORTABLE && defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#ifdef DLFO_STRUCT_HAS_EH_DBASE  // where the build's C library has _dl_find_object, GCC's unwinder asks for it
namespace {

struct Search {
  uintptr_t address;
  dl_find_object *result;
};

// Whether this object holds the address, and unwinding tables for it; what is said of it, if so.
int look(dl_phdr_info *object, size_t, void *data) {
  const auto &search = *static_cast<Search *>(data);
  uintptr_t first = UINTPTR_MAX, end = 0, tables = 0;
  bool inside = false;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto &part = object->dlpi_phdr[i];
    const uintptr_t begin = object->dlpi_addr + part.p_vaddr;
    if (part.p_type == PT_GNU_EH_FRAME) tables = begin;
    if (part.p_type != PT_LOAD) continue;
    first = std::min(first, begin);
    end = std::max(end, begin + part.p_memsz);
    inside = inside || (search.address >= begin && search.address - begin < part.p_memsz);
  }
  if (!inside || tables == 0) return 0;
  *search.result = {};
  search.result->dlfo_map_start = reinterpret_cast<void *>(first);
  search.result->dlfo_map_end = reinterpret_cast<void *>(end);
  search.result->dlfo_eh_frame = reinterpret_cast<void *>(tables);
  return 1;
}

}  // namespace

// glibc 2.35 has it; by dl_iterate_phdr, which all have, it takes longer.
extern "C" __attribute__((visibility("hidden"))) int _dl_find_object(void *address, dl_find_object *result) noexcept {
  Search search{reinterpret_cast<uintptr_t>(address), result};
  return dl_iterate_phdr(look, &search) == 1 ? 0 : -1;
}
#endif

#if __GLIBC_PREREQ(2, 36)  // has it, and std::random_device, which nothing here uses, asks for it
extern "C" __attribute__((visibility("hidden"))) uint32_t arc4random() noexcept {
  uint32_t number = 0;
  [[maybe_unused]] const int failed = getentropy(&number, sizeof number);
  return number;
}
#endif

#endif
