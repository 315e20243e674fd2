// What this machine does at best, measured beside the model: oneDNN's products and bytes read. It describes products
// and takes memory by itself, because what it measures must not be code of the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace cli {

// `batch` products of [rows, inner] by [inner, columns].
struct ProductShape {
  int64_t batch, rows, inner, columns;
};

// Matrix products by oneDNN, f32 or bf16 in and f32 out, over weights that were packed once. Where it has none of bf16
// on this processor (AVX2 alone), f32 ones stand for them.
class Products {
 public:
  // `copies`: every product has that many matrices of weights, used in turn, so that no cache holds them all.
  Products(const std::vector<ProductShape> &shapes, bool bf16, int copies);
  ~Products();
  Products(Products &&) noexcept;
  // Multiplies all shapes once with each copy, and adds the seconds of each such round to `rounds`.
  void run(std::vector<double> &rounds) const;

 private:
  struct Data;
  std::unique_ptr<Data> data_;
};

// Zeroed memory in large pages where the system grants them.
class Bytes {
 public:
  explicit Bytes(size_t size);
  ~Bytes();
  Bytes(Bytes &&other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr; }
  Bytes(const Bytes &) = delete;
  Bytes &operator=(const Bytes &) = delete;
  void *data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void *data_ = nullptr;
  size_t size_ = 0;
};

// Bytes a second at which `threads` threads together read the whole buffer, once over.
double read_bandwidth(const Bytes &buffer, int threads);

// On which products run from now on.
void set_product_threads(int threads);

}  // namespace cli
