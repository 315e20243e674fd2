// The ridge regression that initialises heads of the memory and carriers: see fit_heads.cc.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "adapt/recall_supervisor.h"
#include "gemm/gemm.h"
#include "gemm/solve.h"

namespace infini {

// The regression over the inputs of one layer.
class Regression {
 public:
  // `digits`: the tokens of digits, ascending.
  Regression(const Gemm &gemm, NumberType compute, const Config &config, std::vector<int32_t> digits)
      : gemm_(gemm), compute_(compute), width_(config.width), keys_(config.key_size), values_(config.value_size),
        digits_(std::move(digits)), all_(width_, columns()) {}

  // Columns of y: keys_ for names, then values_ for digits, then one(). Where there are more names than keys_, or more
  // digits than values_, several share a column.
  int64_t digit(int32_t token) const {
    return keys_ + (std::lower_bound(digits_.begin(), digits_.end(), token) - digits_.begin()) % values_;
  }
  int64_t one() const { return keys_ + values_; }

  void add(const Threads &threads, const BatchLayout &layout, ConstRows x) {
    std::map<int32_t, std::vector<int64_t>> held, asked;  // rows by offset
    for (int64_t row = 0; row < layout.rows(); ++row) {
      const auto labelled = [&](int64_t at) { return layout.tags[at].label >= 0; };
      if (labelled(row)) held[layout.tags[row].offset].push_back(row);
      if (const int32_t offset = asked_offset(layout, row); offset >= 0 && labelled(row + 1))
        asked[offset].push_back(row);
    }
    const auto name = [&](int64_t row) { return layout.tags[row].label % keys_; };
    add_all(threads, layout, x);
    for (const auto &[offset, of_offset] : held)
      add(threads, of_offset, x, sums(keys_of_, offset),
          [&](int64_t row, auto &y) { y[name(row)] = y[digit(layout.tokens[row])] = true; });
    for (const auto &[offset, of_offset] : asked)
      add(threads, of_offset, x, sums(queries_of_, offset), [&](int64_t row, auto &y) { y[name(row + 1)] = true; });
  }

  // The same for carriers: rows of names that are targets of local attention. Names share columns where there are more
  // than values_.
  void add_names(const Threads &threads, const BatchLayout &layout, ConstRows x) {
    std::map<int64_t, int64_t> named;  // label of the name, by row
    for (size_t row = 0; row < layout.local_target.size(); ++row)
      if (layout.local_target[row] >= 0 && layout.tags[row].label >= 0)
        named[layout.local_target[row]] = layout.tags[row].label;
    add_all(threads, layout, x);
    if (named.empty()) return;
    std::vector<int64_t> rows;
    for (const auto &[row, name] : named) rows.push_back(row);
    if (!names_) names_.emplace(width_, columns());
    add(threads, rows, x, *names_, [&](int64_t row, auto &y) { y[named[row] % values_] = true; });
  }

  // W [columns + 1][width] of keys, or of queries, of heads with this offset; the last row is that of the column that
  // is 1 at the offset.
  std::vector<double> solve(int32_t offset, bool queries) const {
    const auto &of = queries ? queries_of_ : keys_of_;
    const auto found = of.find(offset);
    if (found == of.end())
      fail(Status::INVALID_ARGUMENT, "what was drawn ", queries ? "asks for" : "holds", " no digit at offset ", offset);
    return solve(found->second, keys_);
  }
  // W of names, for carriers.
  std::vector<double> solve_names() const {
    if (!names_)
      fail(Status::INVALID_ARGUMENT, "what was drawn holds no name that local attention is supervised to attend to");
    return solve(*names_, 0);
  }

 private:
  // Sums over rows: of x x^T, and for each column of y of y x.
  struct Sums {
    Sums(int64_t width, int64_t columns) : squares(width * width), products(columns * width) {}
    Buffer<float> squares;   // [width][width]
    Buffer<float> products;  // [columns][width]
  };

  // W: `named` columns of names first, which are fitted to the rows `own` alone; then the others, and the offset's.
  std::vector<double> solve(const Sums &own, int64_t named) const {
    std::vector<double> w, others;
    for (int64_t column = 0; column < named; ++column) append(1, own, column, w);
    if (named > 0) solve(0, 1, own, kNameRidge, w);
    for (int64_t column = named; column < one(); ++column) append(kOffsetWeight, own, column, others);
    append(kOffsetWeight - 1, own, one(), others);
    for (int64_t i = 0; i < width_; ++i)
      others[others.size() - static_cast<size_t>(width_ - i)] += product(all_, one(), i);
    append(kOffsetWeight, own, one(), others);  // the offset is 1 in all of these rows
    solve(1, kOffsetWeight - 1, own, kRidge, others);
    w.insert(w.end(), others.begin(), others.end());
    return w;
  }
  double product(const Sums &of, int64_t column, int64_t i) const {
    return static_cast<double>(of.products[column * width_ + i]);
  }
  void append(double weight, const Sums &of, int64_t column, std::vector<double> &w) const {
    for (int64_t i = 0; i < width_; ++i) w.push_back(weight * product(of, column, i));
  }
  // Replaces w, the weighted sums of y x^T, by W. Rows have the weight `all`, those of `own` all + more.
  void solve(double all, double more, const Sums &own, double ridge, std::vector<double> &w) const {
    std::vector<double> a(static_cast<size_t>(width_ * width_));
    for (size_t i = 0; i < a.size(); ++i)
      a[i] = all * static_cast<double>(all_.squares[static_cast<int64_t>(i)]) +
             more * static_cast<double>(own.squares[static_cast<int64_t>(i)]);
    if (!solve_ridge(width_, static_cast<int64_t>(w.size()) / width_, ridge, a.data(), w.data()))
      fail(Status::INVALID_ARGUMENT, "what the layer is fed is not finite, or always 0: there is nothing to fit");
  }

  int64_t columns() const { return keys_ + values_ + 1; }
  Sums &sums(std::map<int32_t, Sums> &of, int32_t offset) {
    return of.try_emplace(offset, width_, columns()).first->second;
  }

  void add_all(const Threads &threads, const BatchLayout &layout, ConstRows x) {
    std::vector<int64_t> rows(static_cast<size_t>(layout.rows()));
    std::iota(rows.begin(), rows.end(), 0);
    add(threads, rows, x, all_, [&](int64_t, auto &) {});
  }
  // mark(row, y) sets columns of y.
  template <class Mark>
  void add(const Threads &threads, const std::vector<int64_t> &rows, ConstRows x, Sums &to, const Mark &mark) {
    const auto count = static_cast<int64_t>(rows.size()), bytes = static_cast<int64_t>(bytes_of(compute_));
    x_.reserve(count * width_ * bytes);
    y_.reserve(count * columns() * bytes);
    std::memset(y_.data(), 0, static_cast<size_t>(count * columns() * bytes));
    std::vector<bool> y(static_cast<size_t>(columns()));
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = rows[r];
      std::memcpy(x_.data() + r * width_ * bytes, x.from(row).data, static_cast<size_t>(width_ * bytes));
      y.assign(y.size(), false);
      y[one()] = true;
      mark(row, y);
      for (size_t c = 0; c < y.size(); ++c) {
        const int64_t at = r * columns() + static_cast<int64_t>(c);
        if (const float one = 1; y[c]) store(&one, 1, compute_, y_.data() + at * bytes);
      }
    }
    const ConstRows gathered{compute_, x_.data(), width_};
    gemm_.multiply_transposed(threads, gathered, gathered, count, width_, width_, to.squares.data(), width_, true);
    gemm_.multiply_transposed(threads, {compute_, y_.data(), columns()}, gathered, count, columns(), width_,
                              to.products.data(), width_, true);
  }

  static constexpr double kOffsetWeight = 100;  // w_r of a row with the offset; that of others is 1
  // lambda, relative to the mean of the diagonal of the sum of x x^T; the latter for the columns of names.
  static constexpr double kRidge = 1e-4, kNameRidge = 1e-3;

  const Gemm &gemm_;
  const NumberType compute_;
  const int64_t width_, keys_, values_;
  const std::vector<int32_t> digits_;
  Sums all_;
  std::optional<Sums> names_;                     // over rows of names, for carriers
  std::map<int32_t, Sums> keys_of_, queries_of_;  // by offset
  Buffer<char> x_, y_;
};

}  // namespace infini
