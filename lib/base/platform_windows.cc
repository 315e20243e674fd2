// Windows 10 from version 1903 on.
#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#define _CRT_RAND_S
#include <windows.h>

#include <fcntl.h>
#include <io.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <vector>

#include "base/platform.h"
#include "base/status.h"

namespace infini::platform {

// --- Memory ----------------------------------------------------------------------------------------------------------

// Large pages want a privilege that programs do not have.
void *map_memory(size_t bytes, bool) {
  void *const memory = VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
  if (!memory) throw std::bad_alloc();
  return memory;
}

void unmap_memory(void *memory, size_t) noexcept { VirtualFree(memory, 0, MEM_RELEASE); }
void gather_pages(void *, size_t) noexcept {}
void provide_pages(void *, size_t) noexcept {}

// --- Processors and threads ------------------------------------------------------------------------------------------

int cores() {
  DWORD size = 0;
  GetLogicalProcessorInformationEx(RelationProcessorCore, nullptr, &size);
  std::vector<std::byte> facts(size);
  const auto at = [&](DWORD offset) {
    return reinterpret_cast<SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX *>(facts.data() + offset);
  };
  if (size == 0 || !GetLogicalProcessorInformationEx(RelationProcessorCore, at(0), &size)) return 1;
  // Masks are of one group of up to 64 processors; a process that runs on several has a mask of 0.
  DWORD_PTR allowed = 0, all = 0;
  if (!GetProcessAffinityMask(GetCurrentProcess(), &allowed, &all) || GetActiveProcessorGroupCount() > 1) allowed = 0;
  int found = 0;
  for (DWORD offset = 0; offset < size; offset += at(offset)->Size)
    found += allowed == 0 || (at(offset)->Processor.GroupMask[0].Mask & allowed) != 0;
  return std::max(1, found);
}

// The hard limit of the process's job, which containers have too.
int cpu_quota(const std::string &) {
  JOBOBJECT_CPU_RATE_CONTROL_INFORMATION limit{};
  constexpr DWORD kHard = JOB_OBJECT_CPU_RATE_CONTROL_ENABLE | JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP;
  if (!QueryInformationJobObject(nullptr, JobObjectCpuRateControlInformation, &limit, sizeof limit, nullptr) ||
      (limit.ControlFlags & kHard) != kHard)
    return 0;
  constexpr uint64_t kWhole = 10000;  // of all processors
  const uint64_t processors = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
  return static_cast<int>((processors * limit.CpuRate + kWhole - 1) / kWhole);
}

// Not by std::atomic, whose sleepers GCC 12 may not wake here.
void sleep_while(const std::atomic<uint64_t> &word, uint64_t value) noexcept {
  WaitOnAddress(const_cast<std::atomic<uint64_t> *>(&word), &value, sizeof value, INFINITE);
}
void wake_all(std::atomic<uint64_t> &word) noexcept { WakeByAddressAll(&word); }

// There are no signals.
struct NoSignals::Mask {};
NoSignals::NoSignals() {}
NoSignals::~NoSignals() {}

// --- Files -----------------------------------------------------------------------------------------------------------

namespace {

// errno's number of what Windows refused last.
int code_of_last_error() {
  switch (GetLastError()) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
    case ERROR_BAD_NETPATH:
    case ERROR_INVALID_NAME: return ENOENT;
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION:
    case ERROR_LOCK_VIOLATION:
    case ERROR_USER_MAPPED_FILE:
    case ERROR_WRITE_PROTECT: return EACCES;
    case ERROR_FILE_EXISTS:
    case ERROR_ALREADY_EXISTS: return EEXIST;
    case ERROR_DISK_FULL:
    case ERROR_HANDLE_DISK_FULL: return ENOSPC;
    case ERROR_TOO_MANY_OPEN_FILES: return EMFILE;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_OUTOFMEMORY:
    case ERROR_COMMITMENT_LIMIT: return ENOMEM;
    case ERROR_FILENAME_EXCED_RANGE: return ENAMETOOLONG;
    default: return EIO;
  }
}

// A path as Windows takes it, in UTF-16, however long it is.
std::wstring wide(const std::string &path) {
  const auto size = static_cast<int>(std::min<size_t>(path.size(), 32767));
  std::wstring out(static_cast<size_t>(size), L'\0');
  const int units = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.data(), size, out.data(), size);
  if (units == 0 || path.size() > out.size()) fail_io("cannot open", path, units == 0 ? ENOENT : ENAMETOOLONG);
  out.resize(static_cast<size_t>(units));
  constexpr size_t kShort = 240;  // MAX_PATH, less the name of a temporary file
  if (out.size() < kShort || out.starts_with(LR"(\\)")) return out;
  std::wstring full(32768, L'\0');
  full.resize(GetFullPathNameW(out.c_str(), static_cast<DWORD>(full.size()), full.data(), nullptr));
  return LR"(\\?\)" + full;
}

std::string narrow(std::wstring_view text) {
  std::string out(3 * text.size(), '\0');
  const int size = WideCharToMultiByte(CP_UTF8, 0, text.data(), static_cast<int>(text.size()), out.data(),
                                       static_cast<int>(out.size()), nullptr, nullptr);
  out.resize(static_cast<size_t>(size));
  return out;
}

struct File {
  HANDLE value;
  explicit operator bool() const { return value && value != INVALID_HANDLE_VALUE; }
  ~File() {
    if (*this) CloseHandle(value);
  }
};

constexpr DWORD kShareAll = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

// What stands where a regular file is wanted; nullptr: such a file, or nothing.
const char *other_than_file(const std::wstring &path) {
  const DWORD attributes = GetFileAttributesW(path.c_str());
  if (attributes != INVALID_FILE_ATTRIBUTES && attributes & FILE_ATTRIBUTE_DIRECTORY) return "a folder";
  const File file{CreateFileW(path.c_str(), 0, kShareAll, nullptr, OPEN_EXISTING, 0, nullptr)};
  return file && GetFileType(file.value) != FILE_TYPE_DISK ? "a device or a pipe" : nullptr;
}

std::string folder_of(const std::string &path) {
  const size_t slash = path.find_last_of("/\\:");
  return slash == std::string::npos ? ".\\" : path.substr(0, slash + 1);
}

// The file that replacing `path` has to replace or make: what a symbolic link points to, not the link.
std::string resolve(const std::string &path) {
  const std::wstring given = path.empty() ? std::wstring() : wide(path);
  const DWORD attributes = GetFileAttributesW(given.c_str());
  if (attributes == INVALID_FILE_ATTRIBUTES || !(attributes & FILE_ATTRIBUTE_REPARSE_POINT)) return path;
  const File file{
      CreateFileW(given.c_str(), 0, kShareAll, nullptr, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, nullptr)};
  std::wstring full(32768, L'\0');
  const DWORD size =
      file ? GetFinalPathNameByHandleW(file.value, full.data(), static_cast<DWORD>(full.size()), VOLUME_NAME_DOS) : 0;
  return size == 0 || size > full.size() ? path : narrow(std::wstring_view(full).substr(0, size));
}

// Removes what killed processes have left in the folder: temporary files that nobody has open.
void remove_litter(const std::string &folder) {
  WIN32_FIND_DATAW entry;
  const HANDLE listing = FindFirstFileW(wide(cat(folder, kTemporaryBegin, "*", kTemporaryEnd)).c_str(), &entry);
  if (listing == INVALID_HANDLE_VALUE) return;
  do {
    // Whoever writes one has it open for writing, which this does not share.
    const std::wstring path = wide(folder + narrow(entry.cFileName));
    const File gone{CreateFileW(path.c_str(), DELETE, 0, nullptr, OPEN_EXISTING, FILE_FLAG_DELETE_ON_CLOSE, nullptr)};
  } while (FindNextFileW(listing, &entry));
  FindClose(listing);
}

}  // namespace

std::span<const std::byte> map_file(const std::string &path, bool all) {
  if (path.empty()) fail_io("cannot open", path, ENOENT);
  const std::wstring name = wide(path);
  if (const char *const kind = other_than_file(name))
    infini::fail(Status::IO, "cannot open '", path, "': it is ", kind, ", not a regular file");
  const File file{CreateFileW(name.c_str(), GENERIC_READ, kShareAll, nullptr, OPEN_EXISTING, 0, nullptr)};
  if (!file) fail_io("cannot open", path, code_of_last_error());
  LARGE_INTEGER size;
  if (!GetFileSizeEx(file.value, &size)) fail_io("cannot examine", path, code_of_last_error());
  if (size.QuadPart == 0) return {};  // nothing can be mapped
  const File mapping{CreateFileMappingW(file.value, nullptr, PAGE_READONLY, 0, 0, nullptr)};
  void *const address = mapping ? MapViewOfFile(mapping.value, FILE_MAP_READ, 0, 0, 0) : nullptr;
  if (!address) fail_io("cannot map", path, code_of_last_error());
  const auto bytes = static_cast<size_t>(size.QuadPart);
  WIN32_MEMORY_RANGE_ENTRY range{address, bytes};
  if (all) PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0);
  return {static_cast<const std::byte *>(address), bytes};
}

void unmap_file(std::span<const std::byte> bytes) noexcept {
  if (!bytes.empty()) UnmapViewOfFile(bytes.data());
}

// To unlock pages that are not locked takes them out of the process.
void release_pages(std::span<const std::byte> bytes) noexcept {
  constexpr uintptr_t kPage = 4096;
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()), end = begin + bytes.size();
  const uintptr_t first = (begin + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
  if (first < last) VirtualUnlock(reinterpret_cast<void *>(first), last - first);
}

Replacement::Replacement(const std::string &path) : path_(resolve(path)) {
  if (path.empty()) fail_io("cannot write", path, ENOENT);
  if (const char *const kind = other_than_file(wide(path_)))
    infini::fail(Status::IO, "cannot write '", path, "': it is ", kind, ", not a regular file");
  remove_litter(folder_of(path_));
  do {
    temporary_ = folder_of(path_) + temporary_name();
    const HANDLE file =
        CreateFileW(wide(temporary_).c_str(), GENERIC_WRITE | DELETE, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                    CREATE_NEW, FILE_ATTRIBUTE_NORMAL, nullptr);
    if (file == INVALID_HANDLE_VALUE) {
      if (const int code = code_of_last_error(); code != EEXIST) fail_io("cannot create a file beside", path_, code);
    } else if ((descriptor_ = _open_osfhandle(reinterpret_cast<intptr_t>(file), _O_BINARY)) < 0) {
      CloseHandle(file);
      DeleteFileW(wide(temporary_).c_str());
      fail_io("cannot create a file beside", path_, EMFILE);
    }
  } while (descriptor_ < 0);
}

void Replacement::discard() noexcept {
  if (descriptor_ < 0) return;
  FILE_DISPOSITION_INFO gone{TRUE};
  SetFileInformationByHandle(reinterpret_cast<HANDLE>(_get_osfhandle(descriptor_)), FileDispositionInfo, &gone,
                             sizeof gone);
  _close(descriptor_);
  descriptor_ = -1;
}

int Replacement::allocate(size_t size) noexcept {
  FILE_ALLOCATION_INFO room{};
  room.AllocationSize.QuadPart = static_cast<LONGLONG>(size);
  const auto file = reinterpret_cast<HANDLE>(_get_osfhandle(descriptor_));
  return SetFileInformationByHandle(file, FileAllocationInfo, &room, sizeof room) ? 0 : code_of_last_error();
}

ptrdiff_t Replacement::write_some(const char *data, size_t size) noexcept {
  return _write(descriptor_, data, static_cast<unsigned>(size));
}

void Replacement::rewrite(const char *data, size_t size) {
  if (_lseeki64(descriptor_, 0, SEEK_SET) != 0) fail("cannot write", errno);
  write(data, size);
  if (_lseeki64(descriptor_, 0, SEEK_END) < 0) fail("cannot write", errno);
}

void Replacement::commit() {
  if (_commit(descriptor_) != 0) fail("cannot flush", errno);
  // Open until it has its name, so that nobody takes it for litter. Whoever is reading the old file may soon be done.
  constexpr int kTries = 200;
  const std::wstring from = wide(temporary_), to = wide(path_);
  for (int tries = 1; !MoveFileExW(from.c_str(), to.c_str(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH);
       ++tries) {
    if (const int code = code_of_last_error(); code != EACCES || tries == kTries) fail("cannot replace", code);
    Sleep(10);
  }
  _close(descriptor_);
  descriptor_ = -1;
}

bool random_bits(uint64_t &number) noexcept {
  unsigned low = 0, high = 0;
  if (rand_s(&low) != 0 || rand_s(&high) != 0) return false;
  number = uint64_t{high} << 32 | low;
  return true;
}

}  // namespace infini::platform
#endif
