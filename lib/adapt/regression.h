// The ridge regression that initialises heads of the memory (fit_heads.cc), and carriers (fit_carriers.cc).
//
//   W = argmin sum over rows r of w_r |W x_r - y_r|^2 + lambda |W|^2
//
// x_r is the input of a layer. y_r has a column for every name and for every token of values, which is 1 in rows of it;
// one that is 1 in all rows; and one that is 1 in the rows that were chosen, such as those of an offset. Columns of
// names are fitted to the chosen rows alone (w is 0 elsewhere), others to all rows, of which the chosen weigh more.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "gemm/solve.h"
#include "train/trainer.h"

namespace infini {

// W, by rows of [width].
struct FittedRows {
  std::vector<double> names, others;
  int64_t width, value_columns;

  const double *values() const { return others.data(); }
  const double *one() const { return values() + value_columns * width; }
  const double *chosen() const { return one() + width; }
};

class Regression {
 public:
  // Sums over rows: of x x^T, and for each column of y of y x.
  struct Sums {
    Sums(int64_t width, int64_t columns) : squares(width * width), products(columns * width) {}
    Buffer<float> squares;   // [width][width]
    Buffer<float> products;  // [columns][width]
  };

  Regression(const Trainer &trainer, int64_t names, int64_t values)
      : gemm_(trainer.gemm()), compute_(trainer.compute()), width_(trainer.model().config().width), names_(names),
        values_(values), all_(sums()) {}
  Sums sums() const { return {width_, columns()}; }

  // Columns of y. Names or tokens that are more than columns share some.
  int64_t name(int64_t number) const { return number % names_; }
  int64_t value(int64_t number) const { return names_ + number % values_; }

  // The rows of a batch, of which others are chosen.
  void add_all(const Threads &threads, int64_t count, ConstRows x) {
    std::vector<int64_t> rows(static_cast<size_t>(count));
    for (int64_t row = 0; row < count; ++row) rows[row] = row;
    add(threads, rows, x, all_, [](int64_t, auto &) {});
  }
  // Chosen ones. mark(row, y) sets columns of y.
  template <class Mark>
  void add(const Threads &threads, std::span<const int64_t> rows, ConstRows x, Sums &to, const Mark &mark) {
    const auto count = static_cast<int64_t>(rows.size()), bytes = static_cast<int64_t>(bytes_of(compute_));
    x_.reserve(count * width_ * bytes);
    y_.reserve(count * columns() * bytes);
    std::memset(y_.data(), 0, static_cast<size_t>(count * columns() * bytes));
    std::vector<bool> y(static_cast<size_t>(columns()));
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(x_.data() + r * width_ * bytes, x.from(rows[r]).data, static_cast<size_t>(width_ * bytes));
      y.assign(y.size(), false);
      y[one()] = true;
      mark(rows[r], y);
      for (int64_t c = 0; c < columns(); ++c)
        if (const float one = 1; y[c]) store(&one, 1, compute_, y_.data() + (r * columns() + c) * bytes);
    }
    const ConstRows gathered{compute_, x_.data(), width_};
    gemm_.multiply_transposed(threads, gathered, gathered, count, width_, width_, to.squares.data(), width_, true);
    gemm_.multiply_transposed(threads, {compute_, y_.data(), columns()}, gathered, count, columns(), width_,
                              to.products.data(), width_, true);
  }

  // INVALID_ARGUMENT where x is not finite, or always 0.
  FittedRows solve(const Sums &chosen) const {
    FittedRows w{{}, {}, width_, values_};
    for (int64_t column = 0; column < names_; ++column) append(1, chosen, column, w.names);
    if (names_ > 0) solve(0, 1, chosen, kNameRidge, w.names);
    for (int64_t column = names_; column < one(); ++column) append(kChosenWeight, chosen, column, w.others);
    append(kChosenWeight - 1, chosen, one(), w.others);
    for (int64_t i = 0; i < width_; ++i)
      w.others[w.others.size() - static_cast<size_t>(width_ - i)] += product(all_, one(), i);
    append(kChosenWeight, chosen, one(), w.others);
    solve(1, kChosenWeight - 1, chosen, kRidge, w.others);
    return w;
  }

 private:
  int64_t one() const { return names_ + values_; }
  int64_t columns() const { return one() + 1; }
  double product(const Sums &of, int64_t column, int64_t i) const {
    return static_cast<double>(of.products[column * width_ + i]);
  }
  void append(double weight, const Sums &of, int64_t column, std::vector<double> &w) const {
    for (int64_t i = 0; i < width_; ++i) w.push_back(weight * product(of, column, i));
  }
  // Replaces w, the weighted sums of y x^T, by W: rows have weight `all`, and chosen ones that and `more`.
  void solve(double all, double more, const Sums &chosen, double ridge, std::vector<double> &w) const {
    std::vector<double> a(static_cast<size_t>(width_ * width_));
    for (size_t i = 0; i < a.size(); ++i)
      a[i] = all * static_cast<double>(all_.squares[static_cast<int64_t>(i)]) +
             more * static_cast<double>(chosen.squares[static_cast<int64_t>(i)]);
    if (!solve_ridge(width_, static_cast<int64_t>(w.size()) / width_, ridge, a.data(), w.data()))
      fail(Status::INVALID_ARGUMENT, "what the layer is fed is not finite, or always 0: there is nothing to fit");
  }

  static constexpr double kChosenWeight = 100;  // w of a chosen row; of others it is 1
  // lambda, relative to the mean of the diagonal of the sum of x x^T; the latter for the columns of names.
  static constexpr double kRidge = 1e-4, kNameRidge = 1e-3;

  const Gemm &gemm_;
  const NumberType compute_;
  const int64_t width_, names_, values_;
  Sums all_;
  Buffer<char> x_, y_;
};

}  // namespace infini
