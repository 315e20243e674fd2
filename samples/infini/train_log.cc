#include "train_log.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace cli {

TrainLog::TrainLog(const std::string &path, int64_t step, const Json &run) : path_(path) {
  const int64_t size = kept(step);
  if (size > 0 && step > 0) {
    std::filesystem::resize_file(path, static_cast<uintmax_t>(size));
    file_.open(path, std::ios::binary | std::ios::app);
  } else {
    evaluated_ = -1;
    file_.open(path, std::ios::binary | std::ios::trunc);
  }
  if (!file_) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
  if (size == 0 || step == 0) write({{"run", run}});
}

int64_t TrainLog::kept(int64_t step) {
  std::ifstream file(path_, std::ios::binary);
  int64_t size = 0;
  bool first = true;
  for (std::string line; std::getline(file, line) && !file.eof();
       first = false) {  // a last line without an end is not whole
    Json json;
    try {
      json = parse_json(line, path_);
    } catch (const std::runtime_error &) { break; }
    if (first) {
      if (!json.is_object() || !json.contains("run")) break;
    } else {
      const Json at = json.is_object() ? json.value("step", Json()) : Json();
      if (!at.is_number_integer() || at > step) break;
      if (json.contains("evaluation")) evaluated_ = at;
    }
    size += static_cast<int64_t>(line.size()) + 1;
  }
  std::error_code none;
  if (size == 0 && std::filesystem::file_size(path_, none) > 0 && !none)
    throw std::runtime_error("--log: " + path_ + " is there and is not a log of training; name another file");
  return size;
}

void TrainLog::write(const Json &line) {
  file_ << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n' << std::flush;
  if (!file_) throw std::runtime_error("cannot write " + path_ + ": " + std::strerror(errno));
}

}  // namespace cli
