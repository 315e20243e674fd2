// The keys and the values of one KV head in panels, as products read them, and a token at a time. A window
// owns their memory, and knows which token stands where.
#pragma once

#include <cstdint>

#include "gemm/gemm.h"

namespace infini {

// [size, tokens]: the key of a token is a column.
class KeyPanels {
 public:
  KeyPanels() = default;
  KeyPanels(NumberType type, int64_t size) : type_(type), size_(size) {}
  int64_t bytes(int64_t tokens) const { return panel_count(tokens) * panel_bytes(type_, rows()); }
  void use(char *data, float *scales) { data_ = data, scales_ = scales; }  // the memory to use
  char *data() const { return data_; }

  void put(int64_t token, const float *key);
  void get(int64_t token, float *key) const;
  // Moves tokens [from, from + count) to `to`, towards the front.
  void move(int64_t from, int64_t to, int64_t count);
  // All up to `tokens` as rows [tokens][size] of the type, and back.
  void to_rows(int64_t tokens, char *rows) const;
  void from_rows(const char *rows, int64_t tokens);
  // Those of `count` tokens from `begin`, a multiple of 64, on.
  Panels panels(int64_t begin, int64_t count) const { return {type_, panel(begin), size_, count, panel_size(rows())}; }
  float *scales() const { return scales_; }  // of int8: one a token

 private:
  int64_t rows() const { return padded_k(type_, size_); }
  char *panel(int64_t token) const { return data_ + panel_begin(token, panel_bytes(type_, rows())); }
  int64_t row_bytes() const { return size_ * bytes_of(type_); }
  int64_t cells() const { return cells_of(type_, size_); }                           // of a key
  char *cell(int64_t token) const { return panel(token) + token % kPanel * kCell; }  // the first of a key's

  NumberType type_ = NumberType::F32;
  int64_t size_ = 0;
  char *data_ = nullptr;
  float *scales_ = nullptr;
};

// [tokens, size]: the value of a token is a row of each panel. There is room for `capacity` tokens, a multiple of 64.
class ValuePanels {
 public:
  ValuePanels() = default;
  ValuePanels(NumberType type, int64_t size, int64_t capacity) : type_(type), size_(size), capacity_(capacity) {}
  int64_t bytes() const { return panel_count(size_) * panel_bytes(type_, capacity_); }
  void use(char *data, float *scales) { data_ = data, scales_ = scales; }  // the memory to use: bytes() of it

  void put(int64_t token, const float *value);
  void get(int64_t token, float *value) const;
  void move(int64_t from, int64_t to, int64_t count);
  void to_rows(int64_t tokens, char *rows) const;
  void from_rows(const char *rows, int64_t tokens);
  // Of `count` tokens from `begin`, a multiple of 64, on.
  Panels panels(int64_t begin, int64_t count) const {
    return {type_, data_ + panel_bytes(type_, begin), count, size_, panel_size(capacity_)};
  }
  float *scales() const { return scales_; }  // of int8: one a token
  // The same in f32 panels of `count` rows, from any token on.
  void to_floats(int64_t begin, int64_t count, float *panels) const;
  // f(the first columns of a panel, how many, where it lies)
  template <class Function>
  void each_panel(const Function &f) const {
    for (int64_t first = 0; first < size_; first += kPanel)
      f(first, std::min<int64_t>(kPanel, size_ - first), data_ + panel_begin(first, panel_bytes(type_, capacity_)));
  }

 private:
  int64_t row_bytes() const { return size_ * bytes_of(type_); }
  NumberType type_ = NumberType::F32;
  int64_t size_ = 0, capacity_ = 0;
  char *data_ = nullptr;
  float *scales_ = nullptr;
};

}  // namespace infini
