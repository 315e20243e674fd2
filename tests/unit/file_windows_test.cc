// Files on Windows; file_test.cc is for POSIX.
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <functional>
#include <set>

#include "base/file.h"
#include "base/status.h"
#include "base/testing.h"
#include "support.h"
#include "temporary_folder.h"

using namespace infini;
using Names = std::set<std::string>;

namespace {

void replace(const std::string &path, const std::string &text) {
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

std::string text_of(const std::string &path) {
  const MappedFile file(path);
  return {reinterpret_cast<const char *>(file.bytes().data()), file.bytes().size()};
}

void check_refused(Status status, const std::string &part, const std::function<void()> &action) {
  try {
    action();
  } catch (const Error &error) {
    CAPTURE(error.what());
    CHECK(status_name(error.status()) == std::string(status_name(status)));
    CHECK(std::string(error.what()).find(part) != std::string::npos);
    return;
  }
  FAIL_CHECK("it was not refused: " << part);
}

HANDLE open_file(const std::string &path, DWORD share) {
  return CreateFileA(path.c_str(), GENERIC_READ, share, nullptr, OPEN_EXISTING, 0, nullptr);
}

}  // namespace

TEST_CASE("names are UTF-8, and may be long") {
  const test::TemporaryFolder folder;
  replace(folder.file("Größe ночь 日本 😀"), "text");
  CHECK(text_of(folder.file("Größe ночь 日本 😀")) == "text");
  CHECK(std::filesystem::exists(std::filesystem::path(folder.path()) / L"Größe ночь 日本 😀"));
  const std::string deep = folder.path() + "\\" + std::string(200, 'a');
  REQUIRE(std::filesystem::create_directory(deep));
  replace(deep + "\\" + std::string(100, 'b'), "far down");
  CHECK(text_of(deep + "/" + std::string(100, 'b')) == "far down");
  check_refused(Status::IO, "cannot", [&] { replace(folder.file("\xff\xfe"), "text"); });
}

TEST_CASE("a file is replaced whole, or stays as it was and leaves nothing") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a"), large(300001, 'x');
  for (const std::string &text : {std::string("old"), large, std::string(), std::string("new")}) {
    replace(path, text);
    CHECK(text_of(path) == text);
    CHECK(folder.names() == Names{"a"});
  }
  AtomicFile(path).write("never", 5);
  set_write_failure(100000);
  check_refused(Status::NO_SPACE, path, [&] { replace(path, large); });
  set_write_failure(-1);
  CHECK(text_of(path) == "new");
  CHECK(folder.names() == Names{"a"});
}

TEST_CASE("what is no regular file is refused by name") {
  const test::TemporaryFolder folder;
  for (const std::string &path : {folder.path(), std::string("NUL"), std::string()}) {
    CAPTURE(path);
    check_refused(Status::IO, "'" + path + "'", [&] { MappedFile file(path); });
    check_refused(Status::IO, "'" + path + "'", [&] { AtomicFile file(path); });
  }
  check_refused(Status::IO, "absent", [&] { MappedFile file(folder.file("absent")); });
  check_refused(Status::IO, "absent", [&] { replace(folder.file("absent/a"), "text"); });
}

TEST_CASE("a file that somebody has open is not replaced") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a");
  replace(path, "old");
  const HANDLE reader = open_file(path, FILE_SHARE_READ);
  REQUIRE(reader != INVALID_HANDLE_VALUE);
  check_refused(Status::IO, "cannot replace", [&] { replace(path, "new"); });
  CloseHandle(reader);
  CHECK(text_of(path) == "old");
  CHECK(folder.names() == Names{"a"});
  replace(path, "new");
  CHECK(text_of(path) == "new");
}

TEST_CASE("temporary files that nobody has open are removed, and no others") {
  const test::TemporaryFolder folder;
  replace(folder.file(".infini-1-2-3.tmp"), "of one that was killed");
  replace(folder.file("mine.tmp"), "");
  AtomicFile other(folder.file("b"));
  CHECK(folder.names().size() == 2);  // the litter is gone, the other's file is there
  replace(folder.file("c"), "c");
  other.write("b", 1);
  other.commit();
  CHECK(folder.names() == Names{"b", "c", "mine.tmp"});
}
