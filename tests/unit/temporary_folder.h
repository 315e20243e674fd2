// A folder of its own for a test, removed with all that is in it.
#pragma once

#include <filesystem>
#include <random>
#include <set>
#include <string>

namespace test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::random_device random;
    do path_ = (std::filesystem::temp_directory_path() / ("infini-test-" + std::to_string(random()))).string();
    while (!std::filesystem::create_directory(path_));  // until nobody else has made it
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder &) = delete;
  TemporaryFolder &operator=(const TemporaryFolder &) = delete;

  const std::string &path() const { return path_; }
  std::string file(const std::string &name) const { return path_ + "/" + name; }
  std::set<std::string> names() const {
    std::set<std::string> out;
    for (const auto &entry : std::filesystem::directory_iterator(path_)) out.insert(entry.path().filename().string());
    return out;
  }

 private:
  std::string path_;
};

}  // namespace test
