#include "memory/memory.h"

#include <cstring>

#include "base/status.h"

namespace infini {

Memory::Memory(const MemoryKind &kind, int key_size, int value_size)
    : kind_(&kind), key_size_(key_size), value_size_(value_size), sums_(MemoryTile::size(key_size, value_size)),
      rest_(sums_.size()) {}

void Memory::clear() {
  for (Buffer<float> *numbers : {&sums_, &rest_}) std::fill_n(numbers->data(), numbers->size(), 0.0f);
}

Memory Memory::copy() const {
  if (!*this) return {};
  Memory copied(*kind_, key_size_, value_size_);
  std::memcpy(copied.sums_.data(), sums_.data(), sums_.bytes());
  std::memcpy(copied.rest_.data(), rest_.data(), rest_.bytes());
  return copied;
}

void Memory::read(const float *sigma_q, int64_t rows, float epsilon, float *numerator, float *denominator) const {
  kind_->read({sums_.data(), key_size_, value_size_}, dense_tile(sigma_q, key_size_), rows, epsilon,
              dense_tile(numerator, value_stride()), denominator);
}

// sums += rest; rest becomes the part of it that rounding lost (Knuth's exact sum of two numbers).
void Memory::commit() {
  float *r = rest_.data(), *s = sums_.data();
  for (int64_t i = 0; i < sums_.size(); ++i) {
    const float total = s[i] + r[i], added = total - s[i];
    r[i] = (s[i] - (total - added)) + (r[i] - added);
    s[i] = total;
  }
}

void Memory::merge(const Memory &other, float weight) {
  if (kind_ != other.kind_ || key_size_ != other.key_size_ || value_size_ != other.value_size_)
    fail(Status::INVALID_ARGUMENT, "memories are merged with others of their kind and shape alone");
  for (int64_t i = 0; i < sums_.size(); ++i) {
    const double total =
        static_cast<double>(sums_[i]) + static_cast<double>(rest_[i]) +
        static_cast<double>(weight) * (static_cast<double>(other.sums_[i]) + static_cast<double>(other.rest_[i]));
    sums_[i] = static_cast<float>(total);
    rest_[i] = static_cast<float>(total - static_cast<double>(sums_[i]));
  }
}

}  // namespace infini
