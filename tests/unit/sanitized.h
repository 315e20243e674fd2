// Whether this is built with a sanitizer, which keeps memory of its own, and under which what learns takes minutes.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // GCC's way to tell
#define TEST_SANITIZED 1
#elif defined(__has_feature)  // Clang's
#define TEST_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define TEST_SANITIZED 0
#endif
