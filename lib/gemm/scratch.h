// Memory for the work on products: lent to one user at a time and kept for the next, until the pool goes. Fresh memory
// would cost as much as a small product.
#pragma once

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/buffer.h"

namespace infini {

// Any number of threads. Holds as many buffers as were ever lent at once, each as large as any use of it.
class ScratchPool {
 public:
  // Lends at least so many bytes, which hold anything, for its lifetime.
  class Loan {
   public:
    Loan(ScratchPool &pool, int64_t bytes) : pool_(pool), buffer_(pool.take(bytes)) {
      try {
        buffer_.reserve(bytes);
      } catch (...) {
        pool_.give(std::move(buffer_));
        throw;
      }
    }
    ~Loan() { pool_.give(std::move(buffer_)); }
    Loan(const Loan &) = delete;
    Loan &operator=(const Loan &) = delete;
    // From byte `offset` on, a multiple of 64.
    template <class T>
    T *at(int64_t offset = 0) {
      return reinterpret_cast<T *>(buffer_.data() + offset);
    }

   private:
    ScratchPool &pool_;
    Buffer<char> buffer_;
  };

 private:
  // The smallest that is large enough, or else the largest.
  Buffer<char> take(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    idle_.reserve(idle_.size() + lent_ + 1);  // all can come back
    ++lent_;
    if (idle_.empty()) return {};
    const auto before = [bytes](const Buffer<char> &a, const Buffer<char> &b) {
      const bool a_fits = a.size() >= bytes, b_fits = b.size() >= bytes;
      return a_fits != b_fits ? a_fits : a_fits ? a.size() < b.size() : a.size() > b.size();
    };
    const auto best = std::min_element(idle_.begin(), idle_.end(), before);
    Buffer<char> buffer = std::move(*best);
    *best = std::move(idle_.back());
    idle_.pop_back();
    return buffer;
  }
  void give(Buffer<char> buffer) noexcept {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(buffer));
    --lent_;
  }

  std::mutex mutex_;
  std::vector<Buffer<char>> idle_;
  size_t lent_ = 0;
};

}  // namespace infini
