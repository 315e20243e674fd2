#include "attention/memory.h"

#include <algorithm>
#include <cstring>

namespace infini {
namespace {

void assign(Buffer<float> &to, const Buffer<float> &from) { std::memcpy(to.data(), from.data(), from.bytes()); }
void zero(Buffer<float> &buffer) { std::memset(buffer.data(), 0, buffer.bytes()); }

// sum += rest; rest becomes the part of it that rounding lost (Knuth's exact sum of two numbers).
void add_keeping_rest(Buffer<float> &rest, Buffer<float> &sum) {
  float *r = rest.data(), *s = sum.data();
  for (int64_t i = 0; i < sum.size(); ++i) {
    const float total = s[i] + r[i], added = total - s[i];
    r[i] = (s[i] - (total - added)) + (r[i] - added);
    s[i] = total;
  }
}

}  // namespace

Memory::Memory(int key_size, int value_size)
    : key_size_(key_size), value_size_(value_size), matrix_(key_size * value_stride()), normaliser_(key_size),
      matrix_rest_(key_size * value_stride()), normaliser_rest_(key_size) {}

void Memory::clear() {
  if (!*this) return;
  for (Buffer<float> *sums : {&matrix_, &normaliser_, &matrix_rest_, &normaliser_rest_}) zero(*sums);
}

Memory Memory::copy() const {
  if (!*this) return {};
  Memory twin(key_size_, value_size_);
  assign(twin.matrix_, matrix_);
  assign(twin.normaliser_, normaliser_);
  assign(twin.matrix_rest_, matrix_rest_);
  assign(twin.normaliser_rest_, normaliser_rest_);
  return twin;
}

void Memory::retrieve(const float *sigma_q, int rows, float epsilon, float *numerator, float *denominator) const {
  panel_product(sigma_q, key_size_, 1, rows, matrix_.data(), key_size_ * kPanel, key_size_, 0, value_stride(),
                numerator, value_stride(), false);
  for (int r = 0; r < rows; ++r) denominator[r] = dot(sigma_q + r * key_size_, normaliser_.data(), key_size_) + epsilon;
}

void Memory::add(const float *sigma_k, float *values, int tokens, bool delta, float epsilon) {
  if (delta) {
    // A few keys at a time, so that what is known of them fits on the stack.
    constexpr int kRows = 4;
    for (int64_t panel = 0; panel < value_stride() / kPanel; ++panel) {
      const float *known_panel = matrix_.data() + panel * key_size_ * kPanel;
      float *value_panel = values + panel * tokens * kPanel;
      for (int t = 0; t < tokens; t += kRows) {
        const int rows = std::min(kRows, tokens - t);
        float known[kRows * kPanel];
        panel_product(sigma_k + t * key_size_, key_size_, 1, rows, known_panel, 0, key_size_, 0, kPanel, known, kPanel,
                      false);
        for (int r = 0; r < rows; ++r) {
          const float denominator = dot(sigma_k + (t + r) * key_size_, normaliser_.data(), key_size_) + epsilon;
          add_scaled(known + r * kPanel, -1 / denominator, kPanel, value_panel + (t + r) * kPanel);
        }
      }
    }
  }
  for (int64_t panel = 0; panel < value_stride() / kPanel; ++panel) {
    panel_product(sigma_k, 1, key_size_, key_size_, values + panel * tokens * kPanel, 0, tokens, 0, kPanel,
                  matrix_rest_.data() + panel * key_size_ * kPanel, kPanel, true);
  }
  for (int t = 0; t < tokens; ++t) add_scaled(sigma_k + t * key_size_, 1, key_size_, normaliser_rest_.data());
}

void Memory::commit() {
  add_keeping_rest(matrix_rest_, matrix_);
  add_keeping_rest(normaliser_rest_, normaliser_);
}

}  // namespace infini
