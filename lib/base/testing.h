// What tests change inside the library; nothing of the library uses it. Each is defined beside what it changes.
#pragma once

#include <cstdint>

namespace infini {

// base/file.h: after so many bytes, counted over every AtomicFile from now on, the disk is full; -1: never.
void set_write_failure(long long after_bytes);

// kernels/kernels.h: from now on the kernels use at most this: "avx2", "avx2_vnni", "avx512" (without
// VNNI) or "best". On ARM the first and the third are without dot products, and nothing else.
void limit_instruction_set(const char *name);

// gemm/gemm.h: whether a product has gone this way since the program began.
enum class ProductWay {
  NATIVE,
  DOTS,
  OPENBLAS,
  ONEDNN,
  ONEDNN_APART,
  WIDENED,
  TRANSPOSED_NATIVE,
  TRANSPOSED_OPENBLAS,
  TRANSPOSED_ONEDNN
};
bool has_gone(ProductWay way);

// base/parallel.h: while one lives, no loop is too small for threads, and the calling thread does its own share alone
// and waits until others have come and taken theirs. To be made and ended while no loop runs.
class EagerThreads {
 public:
  EagerThreads();
  ~EagerThreads();
  EagerThreads(const EagerThreads &) = delete;
  EagerThreads &operator=(const EagerThreads &) = delete;
  // How many items others than the calling threads have done since.
  int64_t items_of_others() const;

 private:
  int64_t before_;
};

// base/parallel.h: teams that are made from now on begin as if they had run so many loops.
void set_loops_before(uint32_t loops);

}  // namespace infini
