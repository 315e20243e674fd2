// Memory for numbers: aligned to cache lines, zero at first, and touched only when used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#include "base/platform.h"

namespace infini {

inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// What is read from end to end wants large pages, which save most of the address translation; what fills slowly, or
// never does, wants small ones, so that it takes about as much memory as it holds.
enum class Pages { LARGE, SMALL };

// Owns `size` elements of a plain number type. Large buffers come from the system, whose zero pages
// cost nothing until they are written.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size, Pages pages = Pages::LARGE) : size_(size) {
    if (size < 0 || static_cast<uint64_t>(size) > (SIZE_MAX >> 1) / sizeof(T)) throw std::bad_alloc();
    if (size == 0) return;
    if (bytes() >= (pages == Pages::LARGE ? kLargeFrom : kSmallFrom)) {
      data_ = static_cast<T *>(platform::map_memory(bytes(), pages == Pages::LARGE));
    } else {
      // calloc knows which pages come from the system, and leaves those alone.
      memory_ = std::calloc(1, bytes() + kAlignment);
      if (!memory_) throw std::bad_alloc();
      data_ = reinterpret_cast<T *>(round_up(reinterpret_cast<intptr_t>(memory_), kAlignment));
    }
  }
  ~Buffer() {
    if (memory_) std::free(memory_);
    else if (data_) platform::unmap_memory(data_, bytes());
  }
  Buffer(Buffer &&other) noexcept
      : data_(std::exchange(other.data_, nullptr)), memory_(std::exchange(other.memory_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Buffer &operator=(Buffer &&other) noexcept {
    std::swap(data_, other.data_);
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    return *this;
  }

  T *data() { return data_; }
  const T *data() const { return data_; }
  T &operator[](int64_t i) { return data_[i]; }
  const T &operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return size_; }
  size_t bytes() const { return static_cast<size_t>(size_) * sizeof(T); }

  // Gathers a buffer of small pages, which has become full, into large ones; older systems do so later, by themselves.
  void use_large_pages() {
    if (!memory_) platform::gather_pages(data_, bytes());
  }

  // At least `size` elements; what was there is lost if it has to grow.
  void reserve(int64_t size) {
    if (size > size_) *this = Buffer(size);
  }

 private:
  // Bytes from which a buffer is mapped. A new mapping pays for each of its pages; the heap's are often there.
  static constexpr size_t kLargeFrom = size_t{1} << 18, kSmallFrom = size_t{1} << 20, kAlignment = 64;
  T *data_ = nullptr;
  void *memory_ = nullptr;  // that `data_` lies in, unless it was mapped
  int64_t size_ = 0;
};

}  // namespace infini
