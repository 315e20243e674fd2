#include "base/status.h"

namespace infini {

const char *status_name(Status status) {
  switch (status) {
#define X(name, value, text) \
  case Status::name: return #name;
    INFINI_STATUS_TABLE(X)
#undef X
  }
  return "UNKNOWN";
}

const char *status_text(Status status) {
  switch (status) {
#define X(name, value, text) \
  case Status::name: return text;
    INFINI_STATUS_TABLE(X)
#undef X
  }
  return "unknown status";
}

}  // namespace infini
