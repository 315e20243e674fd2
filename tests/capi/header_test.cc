// The header is C++ too.
#include <infini/infini.h>

extern "C" int from_cpp(void) {
  infini_options *options = nullptr;
  const infini_status status = infini_options_create(&options);
  infini_options_free(options);
  return status;
}
