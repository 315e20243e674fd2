/* The headers are C99, may be included twice, and tells the build's versions. */
#include <infini/infini.h>
#include <infini/infini.h>
#include <infini/infini_train.h>
#include <infini/infini_train.h>
#include <string.h>

int from_cpp(void);

int main(void) {
  return strcmp(infini_version(), EXPECTED_VERSION) != 0 || infini_abi_version() != EXPECTED_ABI_VERSION ||
         INFINI_ABI_VERSION != EXPECTED_ABI_VERSION || from_cpp() != INFINI_OK;
}
