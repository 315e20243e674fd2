// infini bench --snapshot: saving and restoring a session beside a plain write and a plain read of the same bytes.
//
// Each run does all four in turn, in one folder. Both writes make a new file, flush it and its folder. Both reads find
// the file in the system's cache and end with its contents in memory that was not used before.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <system_error>

#include "bench.h"

namespace cli {
namespace {

class Descriptor {
 public:
  Descriptor(const std::string &path, int flags) : path_(path), value_(open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (value_ < 0) fail("open");
  }
  ~Descriptor() { close(value_); }
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;

  void write(const std::string &bytes) const {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t count = ::write(value_, bytes.data() + at, bytes.size() - at);
      if (count < 0) fail("write");
      at += static_cast<size_t>(count);
    }
  }
  void read(char *bytes, size_t size) const {
    for (size_t at = 0; at < size;) {
      const ssize_t count = ::read(value_, bytes + at, size - at);
      if (count <= 0) fail("read");
      at += static_cast<size_t>(count);
    }
  }
  void flush() const {
    if (fsync(value_) != 0) fail("flush");
  }

 private:
  [[noreturn]] void fail(const char *what) const {
    throw std::runtime_error(std::string("cannot ") + what + " " + path_ + ": " + std::strerror(errno));
  }
  std::string path_;
  int value_;
};

// A folder that goes with everything in it.
class Folder {
 public:
  explicit Folder(const std::string &beside) : path_(beside + "/infini-bench-XXXXXX") {
    if (!mkdtemp(path_.data()))
      throw std::runtime_error("cannot make a folder in " + beside + ": " + std::strerror(errno));
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder &) = delete;
  Folder &operator=(const Folder &) = delete;
  const std::string &path() const { return path_; }

 private:
  std::string path_;
};

void plain_write(const Folder &folder, const std::string &path, const std::string &bytes) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_EXCL);
  file.write(bytes);
  file.flush();
  Descriptor(folder.path(), O_RDONLY | O_DIRECTORY).flush();
}

// Memory from the system, not from the heap, which would give the same again and again.
void plain_read(const std::string &path, size_t size) {
  void *const bytes = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED) throw std::bad_alloc();
  const std::unique_ptr<char, std::function<void(char *)>> kept(static_cast<char *>(bytes),
                                                                [size](char *at) { munmap(at, size); });
  Descriptor(path, O_RDONLY).read(kept.get(), size);
}

struct Measures {
  Runs save, write, restore, read;

  void run(const Session &session, const Session &target, const Folder &folder) {
    const std::string saved = folder.path() + "/saved", plain = folder.path() + "/plain";
    const auto timed = [](Runs &runs, const auto &work) {
      const Stopwatch watch;
      work();
      runs.values.push_back(watch.seconds());
    };
    timed(save, [&] { check(infini_session_save(session.get(), saved.c_str(), 0, nullptr, nullptr, nullptr)); });
    std::string bytes(std::filesystem::file_size(saved), '\0');
    Descriptor(saved, O_RDONLY).read(bytes.data(), bytes.size());
    timed(write, [&] { plain_write(folder, plain, bytes); });
    timed(restore, [&] { check(infini_session_restore(target.get(), saved.c_str(), nullptr)); });
    timed(read, [&] { plain_read(saved, bytes.size()); });
    unlink(saved.c_str());
    unlink(plain.c_str());
  }

  Json json() const {
    return {{"save_seconds", save.least()},
            {"save_seconds_median", save.median()},
            {"write_seconds", write.least()},
            {"write_seconds_median", write.median()},
            {"save_ratio", save.least() / write.least()},
            {"save_ratio_median", save.median() / write.median()},
            {"restore_seconds", restore.least()},
            {"restore_seconds_median", restore.median()},
            {"read_seconds", read.least()},
            {"read_seconds_median", read.median()},
            {"restore_ratio", restore.least() / read.least()},
            {"restore_ratio_median", restore.median() / read.median()}};
  }
};

void print_pair(const char *name, const Runs &ours, const char *plain_name, const Runs &plain) {
  print(format("%-8s %9.3f %9.3f ms   %-12s %9.3f %9.3f ms   ratio %5.2f %5.2f\n", name, ours.least() * 1e3,
               ours.median() * 1e3, plain_name, plain.least() * 1e3, plain.median() * 1e3, ours.least() / plain.least(),
               ours.median() / plain.median()));
}

}  // namespace

void bench_snapshot(const BenchArguments &arguments, const Options &of_model, const Options &options,
                    const std::vector<int64_t> &depths) {
  const Model model = open_model(arguments.model, of_model);
  const Json info = model_info(model.get());
  const Session session = make<Session>(infini_session_create, model.get(), options.get());
  const Session target = make<Session>(infini_session_create, model.get(), options.get());
  const Folder folder(arguments.folder);
  const int64_t segment = info["segment"];

  Json results = Json::array();
  Progress progress("reading");
  int64_t at = 0;
  for (const int64_t depth : depths) {
    const int64_t whole = (depth + segment - 1) / segment * segment;  // the open segment is part of a snapshot's size
    feed_random(session.get(), whole - at, info["vocabulary"], progress);
    progress.add_done(whole - at);
    at = whole;
    size_t size = 0;
    check(infini_session_save_buffer(session.get(), 0, nullptr, nullptr, nullptr, nullptr, 0, &size));
    results.push_back({{"depth", at}, {"bytes", size}});
    if (interrupted()) throw Cancelled();
  }
  progress.clear();
  Measures measures;
  for (int64_t run = 0; run < arguments.runs; ++run) {
    if (interrupted()) throw Cancelled();
    measures.run(session, target, folder);
  }

  if (arguments.json) {
    Json json = measures.json();
    json["compute"] = info["compute"];
    json["results"] = results;
    return print_json(json);
  }
  print(format("%s, %s, whole segments of %s random tokens were read\n", info["name"].get<std::string>().c_str(),
               info["compute"].get<std::string>().c_str(), grouped(segment).c_str()));
  for (const Json &row : results)
    print(format("snapshot after %13s tokens: %13s bytes\n", grouped(row["depth"]).c_str(),
                 grouped(row["bytes"]).c_str()));
  print(format("%-8s %9s %9s      %-12s %9s %9s            %5s %5s\n", "", "fastest", "median", "", "fastest", "median",
               "", "median"));
  print_pair("save", measures.save, "plain write", measures.write);
  print_pair("restore", measures.restore, "plain read", measures.read);
}

}  // namespace cli
