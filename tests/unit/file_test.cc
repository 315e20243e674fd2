#include "base/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <set>

#include "base/status.h"
#include "base/testing.h"
#include "support.h"
#include "temporary_folder.h"

using namespace infini;
using Names = std::set<std::string>;

namespace {

std::string pattern(size_t size, char first) {
  std::string out(size, first);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<char>(first + static_cast<char>(i % 23));
  return out;
}

void put_text(const std::string &path, const std::string &text) { std::ofstream(path, std::ios::binary) << text; }

void replace(const std::string &path, const std::string &text, size_t piece = 1000) {
  AtomicFile file(path);
  for (size_t i = 0; i < text.size(); i += piece) file.write(text.data() + i, std::min(piece, text.size() - i));
  file.commit();
}

// The status and message of the Error that `action` throws; OK where it throws none.
Error error_of(const std::function<void()> &action) {
  try {
    action();
  } catch (const Error &error) { return error; }
  return {Status::OK, ""};
}

void check_refused(Status status, const std::string &part, const std::function<void()> &action) {
  const Error error = error_of(action);
  CAPTURE(error.what());
  CHECK(status_name(error.status()) == std::string(status_name(status)));
  CHECK(std::string(error.what()).find(part) != std::string::npos);
}

// Runs `action` in a child process; what it returns is the child's exit status (126: it threw).
int in_child(const std::function<int()> &action) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int result = 126;
    try {
      result = action();
    } catch (...) {}
    _exit(result);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

TEST_CASE("a mapped file holds the bytes of the file") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a"), text = pattern(100000, 'a');
  put_text(path, text);
  const MappedFile file(path);
  const std::string mapped(reinterpret_cast<const char *>(file.bytes().data()), file.bytes().size());
  CHECK(mapped == text);
}

TEST_CASE("a file that room was reserved for holds what was written, and no more") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a"), text = pattern(100000, 'a');
  for (const size_t room : {size_t{0}, text.size() / 2, text.size(), text.size() * 3}) {
    AtomicFile file(path);
    file.reserve(room);
    file.write(text.data(), text.size());
    file.commit();
    CHECK(test::read_text(path) == text);
  }
}

TEST_CASE("more room than a disk can have is refused before anything is written") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a");
  put_text(path, "old");
  check_refused(Status::NO_SPACE, path, [&] { AtomicFile(path).reserve(size_t{1} << 50); });
  CHECK(test::read_text(path) == "old");
  CHECK(folder.names() == Names{"a"});
}

TEST_CASE("an empty file maps to no bytes") {
  const test::TemporaryFolder folder;
  put_text(folder.file("empty"), "");
  CHECK(MappedFile(folder.file("empty")).bytes().empty());
}

TEST_CASE("what is no regular file is refused by name, at once") {
  const test::TemporaryFolder folder;
  const std::string pipe = folder.file("pipe");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  for (const std::string &path : {pipe, folder.path(), std::string("/dev/null"), std::string()}) {
    CAPTURE(path);
    check_refused(Status::IO, "'" + path + "'", [&] { MappedFile file(path); });
    check_refused(Status::IO, "'" + path + "'", [&] { AtomicFile file(path); });
  }
  check_refused(Status::IO, "absent", [&] { MappedFile file(folder.file("absent")); });
  check_refused(Status::IO, "folder", [&] { MappedFile file(folder.path()); });
  CHECK(folder.names() == Names{"pipe"});
}

TEST_CASE("a committed file holds what was written, however it was cut") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a");
  const std::string text = pattern(300001, 'b');
  for (const size_t piece : {size_t{7}, size_t{1000}, size_t{65536}, size_t{65537}, text.size()}) {
    CAPTURE(piece);
    replace(path, text, piece);
    CHECK(test::read_text(path) == text);
  }
  replace(path, "");
  CHECK(test::read_text(path) == "");
  CHECK(folder.names() == Names{"a"});
}

TEST_CASE("without a commit nothing is replaced and nothing is left") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a");
  {
    AtomicFile file(path);
    file.write("new", 3);
    CHECK(folder.names().count("a") == 0);
  }
  CHECK(folder.names().empty());
  put_text(path, "old");
  {
    AtomicFile file(path);
    file.write("new", 3);
  }
  CHECK(test::read_text(path) == "old");
  CHECK(folder.names() == Names{"a"});
}

TEST_CASE("a disk that fills up at any byte leaves the old file and no litter") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a"), text = pattern(300, 'c');
  put_text(path, "old");
  for (size_t bytes = 0; bytes < text.size(); ++bytes) {
    CAPTURE(bytes);
    set_write_failure(static_cast<long long>(bytes));
    check_refused(Status::NO_SPACE, path, [&] { replace(path, text, 70); });
    CHECK(test::read_text(path) == "old");
    CHECK(folder.names() == Names{"a"});
  }
  // Past the buffer, where the pieces go out one by one.
  const std::string large = pattern(200000, 'd');
  for (const long long bytes : {65535, 65536, 131071, 199999}) {
    set_write_failure(bytes);
    check_refused(Status::NO_SPACE, path, [&] { replace(path, large, 999); });
    CHECK(test::read_text(path) == "old");
    CHECK(folder.names() == Names{"a"});
  }
  set_write_failure(static_cast<long long>(text.size()));
  replace(path, text, 70);
  set_write_failure(-1);
  CHECK(test::read_text(path) == text);
}

TEST_CASE("what a file begins with can be written anew, gathered or written already") {
  const test::TemporaryFolder folder;
  const std::string front = "front";
  for (const size_t size : {size_t{5}, size_t{300}, size_t{200000}}) {
    CAPTURE(size);
    std::string text = pattern(size, 'f');
    AtomicFile file(folder.file("a"));
    for (size_t at = 0; at < size; at += 70) file.write(text.data() + at, std::min<size_t>(70, size - at));
    file.rewrite(std::as_bytes(std::span(front)));
    file.write("end", 3);
    file.commit();
    check_refused(Status::STATE, folder.file("a"), [&] { file.rewrite({}); });
    CHECK(test::read_text(folder.file("a")) == text.replace(0, front.size(), front) + "end");
  }
}

TEST_CASE("a file that failed cannot be committed afterwards") {
  const test::TemporaryFolder folder;
  AtomicFile file(folder.file("a"));
  set_write_failure(10);
  const std::string text = pattern(100000, 'e');
  check_refused(Status::NO_SPACE, folder.file("a"), [&] { file.write(text.data(), text.size()); });
  set_write_failure(-1);
  check_refused(Status::STATE, folder.file("a"), [&] { file.write("x", 1); });
  check_refused(Status::STATE, folder.file("a"), [&] { file.commit(); });
  CHECK(folder.names().empty());
}

TEST_CASE("reaching the file-size limit is NO_SPACE and leaves the old file") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a");
  put_text(path, "old");
  const int status = in_child([&] {
    const rlimit limit{100000, 100000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    return error_of([&] { replace(path, pattern(200000, 'f')); }).status() == Status::NO_SPACE ? 0 : 1;
  });
  CHECK(status == 0);
  CHECK(test::read_text(path) == "old");
  CHECK(folder.names() == Names{"a"});
}

TEST_CASE("the signal of the file-size limit that the host waits for is not taken from it") {
  const test::TemporaryFolder folder;
  const int status = in_child([&] {
    sigset_t signal, pending;
    sigemptyset(&signal);
    sigaddset(&signal, SIGXFSZ);
    sigprocmask(SIG_BLOCK, &signal, nullptr);
    std::raise(SIGXFSZ);
    const rlimit limit{1000, 1000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    if (error_of([&] { replace(folder.file("a"), pattern(2000, 'f')); }).status() != Status::NO_SPACE) return 3;
    sigpending(&pending);
    return sigismember(&pending, SIGXFSZ) == 1 ? 0 : 4;
  });
  CHECK(status == 0);
}

TEST_CASE("what killed processes left is removed by the next file in the folder, what others are writing is not") {
  const test::TemporaryFolder folder;
  CHECK(in_child([&]() -> int {
          AtomicFile file(folder.file("a"));
          std::raise(SIGKILL);
          return 0;
        }) == 128 + SIGKILL);
  CHECK(folder.names().size() == 1);
  put_text(folder.file("mine.tmp"), "");
  AtomicFile other(folder.file("b"));
  CHECK(folder.names().size() == 2);  // the litter is gone, the other's file is there
  replace(folder.file("c"), "c");
  other.write("b", 1);
  other.commit();
  CHECK(folder.names() == Names{"b", "c", "mine.tmp"});
}

TEST_CASE("a link to a file that is not there makes that file") {
  const test::TemporaryFolder folder;
  REQUIRE(symlink("second", folder.file("first").c_str()) == 0);
  REQUIRE(symlink(folder.file("target").c_str(), folder.file("second").c_str()) == 0);
  for (const char *text : {"made", "replaced"}) {
    replace(folder.file("first"), text);
    CHECK(test::read_text(folder.file("target")) == text);
    CHECK(folder.names() == Names{"first", "second", "target"});
  }
  REQUIRE(symlink("loop", folder.file("loop").c_str()) == 0);
  check_refused(Status::IO, "loop", [&] { AtomicFile file(folder.file("loop")); });
}

TEST_CASE("a name may be no UTF-8, and one that is too long is refused") {
  const test::TemporaryFolder folder;
  replace(folder.file("\xff\xfe"), "text");
  CHECK(test::read_text(folder.file("\xff\xfe")) == "text");
  check_refused(Status::IO, "too long", [&] { AtomicFile file(folder.file(std::string(300, 'a'))); });
  check_refused(Status::IO, "/dev/full", [] { AtomicFile file("/dev/full"); });
}

TEST_CASE("a folder that cannot be written is an IO error that names the path") {
  check_refused(Status::IO, "/nowhere/at/all", [] { AtomicFile file("/nowhere/at/all"); });
  check_refused(Status::IO, "/proc/a-file", [] { AtomicFile file("/proc/a-file"); });

  const test::TemporaryFolder folder;
  const std::string path = folder.file("a");
  put_text(path, "old");
  REQUIRE(chmod(folder.path().c_str(), 0555) == 0);
  const int status = in_child([&] {
    // To root no folder is read-only.
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) return 77;
    return error_of([&] { AtomicFile file(path); }).status() == Status::IO ? 0 : 1;
  });
  if (status == 77) std::printf("skipped: a read-only folder, because root cannot become another user here\n");
  CHECK((status == 0 || status == 77));
  REQUIRE(chmod(folder.path().c_str(), 0755) == 0);
  CHECK(test::read_text(path) == "old");
  CHECK(folder.names() == Names{"a"});
}

TEST_CASE("a process killed while saving leaves the old file or the new one, whole") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a");
  const std::string first = pattern(1000000, 'g'), second = pattern(1500000, 'h');
  replace(path, first);
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        for (;;) {
          replace(path, second, 5000);
          replace(path, first, 5000);
        }
      } catch (...) { _exit(1); }
    }
    usleep(static_cast<useconds_t>(1000 + 1700 * round));
    kill(child, SIGKILL);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    const std::string found = test::read_text(path);
    CHECK((found == first || found == second));
  }
}

TEST_CASE("replacing keeps the old file's permissions and follows a symbolic link") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a"), link = folder.file("link");
  put_text(path, "old");
  REQUIRE(chmod(path.c_str(), 0640) == 0);
  REQUIRE(symlink("a", link.c_str()) == 0);
  replace(link, "new");
  CHECK(test::read_text(path) == "new");
  struct stat info;
  REQUIRE(lstat(link.c_str(), &info) == 0);
  CHECK(S_ISLNK(info.st_mode));
  REQUIRE(stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("a name as long as the file system allows can be written") {
  const test::TemporaryFolder folder;
  const std::string name(255, 'n');
  replace(folder.file(name), "text");
  CHECK(folder.names() == Names{name});
  check_refused(Status::IO, "nnn", [&] { AtomicFile file(folder.file(name + "n")); });
}
