// Checked reading of a JSON object of settings: each field is checked as it is read, and fields that no call has read
// are refused. Every failure is an INVALID_ARGUMENT error that names the field. schema.h reads structs of settings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace infini {

class Fields {
 public:
  // `where` names the object in messages: "source", "source.sources[1]".
  Fields(const nlohmann::json &object, std::string where);

  // The value, or `standard` where the field is absent. Ranges are closed.
  int64_t whole(const char *name, int64_t standard, int64_t least, int64_t greatest);
  double number(const char *name, double standard, double least, double greatest);
  bool flag(const char *name, bool standard);
  std::string text(const char *name, const std::string &standard);
  std::vector<std::string> texts(const char *name);  // a list; empty where it is absent
  const nlohmann::json *find(const char *name);      // NULL where it is absent
  bool has(const char *name) const { return object_.contains(name); }
  // Fails if the object has a field that was not asked for.
  void finish() const;

  std::string path(const char *name) const { return where_ + "." + name; }
  [[noreturn]] void refuse(const char *name, const std::string &expected) const;

 private:
  const nlohmann::json &object_;
  std::string where_;
  std::vector<std::string> known_;
};

// "; did you mean 'rate'?" where one of the names is near what was given, else "".
std::string did_you_mean(const std::string &given, const std::vector<std::string> &names);

}  // namespace infini
