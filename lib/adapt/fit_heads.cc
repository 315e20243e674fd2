// Heads of the memory are initialised by ridge regression. A group of heads with an offset retrieves one digit of a
// value, that of the offset. Features of its keys are near 0 except at digits with that offset, where they encode the
// name of the value; features of its queries are near 0 except where such a digit is asked for, where they encode the
// name that is asked for. Both are linear functions of the residual stream once heads below have carried names to
// digits (local_supervision). Regression finds these functions; gradients from random weights do not.
//
//   W = argmin sum over rows r of w_r |W x_r - y_r|^2 + lambda |W|^2
//   sigma(q) = sigma(kName * (W x)[name] + kOffset * (W x)[offset] - kBias * (W x)[one])
//
// x_r is the input of the layer, and y_r has a column for every name, which is 1 in rows of that name, one for every
// digit, one for the offset, and one that is 1 in all rows. Columns of names are fitted to rows with the offset alone
// (w is 0 elsewhere); the column of the offset separates those from the others. Each is nearly 1 or 0, and a feature is
// near 0 unless both are 1. v is the columns of digits, and o raises the logit of the digit: it is the rows of the
// output layer that belong to digits, less their mean.
//
// Carrier heads copy names to digits. What a plain model holds at the token of a name hardly tells it from other names
// in the layers above, so v and o of carriers are fitted too: v is the columns of names, fitted as above to rows that
// hold a name, and o writes a random direction for each, which is that name's alone.
#include "adapt/fit_heads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <tuple>

#include "base/random.h"
#include "gemm/solve.h"
#include "kernels/gradients.h"

namespace infini {
namespace {

constexpr double kOffsetWeight = 100;  // w of a row with the offset; of others it is 1
// lambda, relative to the mean of the diagonal of the sum of x x^T; the latter for the columns of names.
constexpr double kRidge = 1e-4, kNameRidge = 1e-3;
constexpr double kName = 20, kOffset = 20, kBias = 30;

// Sums over rows: of x x^T, and for each column of y of y x.
struct Sums {
  Sums(int64_t width, int64_t columns) : squares(width * width), products(columns * width) {}
  Buffer<float> squares;   // [width][width]
  Buffer<float> products;  // [columns][width]
};

// The regression over the inputs of one layer.
class Regression {
 public:
  // `digits`: the tokens of digits, ascending.
  Regression(const Gemm &gemm, NumberType compute, const Config &config, const std::vector<int32_t> &digits)
      : gemm_(gemm), compute_(compute), width_(config.width), keys_(config.key_size), values_(config.value_size),
        digits_(digits), all_(width_, columns()) {}

  // Columns of y. If there are more names than a key has features, some share a column; so do digits and the size of a
  // value.
  int64_t digit(int32_t token) const {
    return keys_ + (std::lower_bound(digits_.begin(), digits_.end(), token) - digits_.begin()) % values_;
  }
  int64_t one() const { return keys_ + values_; }

  void add(const Threads &threads, const BatchLayout &layout, ConstRows x) {
    std::map<int32_t, std::vector<int64_t>> held, asked;  // rows by offset
    for (int64_t row = 0; row < layout.rows(); ++row) {
      const auto labelled = [&](int64_t at) { return layout.label[static_cast<size_t>(at)] >= 0; };
      if (labelled(row)) held[layout.offset[static_cast<size_t>(row)]].push_back(row);
      if (const int32_t offset = layout.asked_offset(row); offset >= 0 && labelled(row + 1))
        asked[offset].push_back(row);
    }
    const auto name = [&](int64_t row) { return layout.label[static_cast<size_t>(row)] % keys_; };
    add_all(threads, layout, x);
    for (const auto &[offset, of_offset] : held)
      add(threads, of_offset, x, sums(keys_of_, offset),
          [&](int64_t row, auto &y) { y[name(row)] = y[digit(layout.tokens[static_cast<size_t>(row)])] = true; });
    for (const auto &[offset, of_offset] : asked)
      add(threads, of_offset, x, sums(queries_of_, offset), [&](int64_t row, auto &y) { y[name(row + 1)] = true; });
  }

  // The same for carriers: rows of names that are targets of local attention. Names share columns where there are more
  // than the size of a value.
  void add_names(const Threads &threads, const BatchLayout &layout, ConstRows x) {
    std::map<int64_t, int64_t> named;  // row, number of the name
    for (size_t row = 0; row < layout.local_target.size(); ++row)
      if (layout.local_target[row] >= 0 && layout.label[row] >= 0) named[layout.local_target[row]] = layout.label[row];
    add_all(threads, layout, x);
    if (named.empty()) return;
    std::vector<int64_t> rows;
    for (const auto &[row, name] : named) rows.push_back(row);
    if (!names_) names_.emplace(width_, columns());
    add(threads, rows, x, *names_, [&](int64_t row, auto &y) { y[named[row] % values_] = true; });
  }

  // W [columns + 1][width] of keys, or of queries; the last row is that of the offset.
  std::vector<double> solve(int32_t offset, bool queries) const {
    const auto &of = queries ? queries_of_ : keys_of_;
    const auto found = of.find(offset);
    if (found == of.end())
      fail(Status::INVALID_ARGUMENT, "what was drawn ", queries ? "asks for" : "holds", " no digit at offset ", offset);
    return solve(found->second, keys_);
  }
  // W of names alone.
  std::vector<double> solve_names() const {
    if (!names_)
      fail(Status::INVALID_ARGUMENT, "what was drawn holds no name that local attention is supervised to attend to");
    return solve(*names_, 0);
  }

 private:
  // W of `named` columns of names, then of digits and of one, and of the offset.
  std::vector<double> solve(const Sums &own, int64_t named) const {
    const auto product = [&](const Sums &of, int64_t column, int64_t i) {
      return static_cast<double>(of.products[column * width_ + i]);
    };
    std::vector<double> names(static_cast<size_t>(named * width_)),
        w(static_cast<size_t>((columns() + 1 - named) * width_));
    for (int64_t column = 0; column < named; ++column)
      for (int64_t i = 0; i < width_; ++i) names[static_cast<size_t>(column * width_ + i)] = product(own, column, i);
    for (int64_t column = named; column <= columns(); ++column)
      for (int64_t i = 0; i < width_; ++i) {
        const bool offset = column == columns();
        w[static_cast<size_t>((column - named) * width_ + i)] =
            column == one() ? product(all_, one(), i) + (kOffsetWeight - 1) * product(own, one(), i)
                            : kOffsetWeight * product(own, offset ? one() : column, i);
      }
    if (named > 0) solve(0, 1, own, kNameRidge, names);
    solve(1, kOffsetWeight - 1, own, kRidge, w);
    names.insert(names.end(), w.begin(), w.end());
    return names;
  }
  // Replaces w, the weighted sums of y x^T, by W: rows have weight `all`, and those of `own` that and `more`.
  void solve(double all, double more, const Sums &own, double ridge, std::vector<double> &w) const {
    std::vector<double> a(static_cast<size_t>(width_ * width_));
    double trace = 0;
    for (size_t i = 0; i < a.size(); ++i)
      a[i] = all * static_cast<double>(all_.squares[static_cast<int64_t>(i)]) +
             more * static_cast<double>(own.squares[static_cast<int64_t>(i)]);
    for (int64_t i = 0; i < width_; ++i) trace += a[static_cast<size_t>(i * (width_ + 1))];
    for (int64_t i = 0; i < width_; ++i)
      a[static_cast<size_t>(i * (width_ + 1))] += ridge * trace / static_cast<double>(width_);
    if (!solve_positive(width_, static_cast<int64_t>(w.size()) / width_, a.data(), w.data()))
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
      const int64_t row = rows[static_cast<size_t>(r)];
      std::memcpy(x_.data() + r * width_ * bytes, x.from(row).data, static_cast<size_t>(width_ * bytes));
      y.assign(y.size(), false);
      y[static_cast<size_t>(one())] = true;
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

  const Gemm &gemm_;
  const NumberType compute_;
  const int64_t width_, keys_, values_;
  const std::vector<int32_t> &digits_;
  Sums all_;
  std::optional<Sums> names_;                     // over rows of names, for carriers
  std::map<int32_t, Sums> keys_of_, queries_of_;  // by offset
  Buffer<char> x_, y_;
};

// Root mean square of the input of the last layer, in rows that predict a digit of an answer.
double size_before_output(Trainer::Drawn &drawn, const BatchLayout &layout, const Config &config) {
  double squares = 0;
  int64_t rows = 0;
  const int64_t width = config.width;
  const LayerObserver observer = [&](const LayerView &view) {
    if (view.layer + 1 < static_cast<size_t>(config.layers)) return;
    for (int64_t row = 0; row < layout.rows(); ++row)
      if (layout.asked_offset(row) >= 0)
        squares += static_cast<double>(dot(view.x + row * view.x_stride, view.x + row * view.x_stride, width)), ++rows;
  };
  drawn.forward(observer);
  return rows > 0 ? std::sqrt(squares / static_cast<double>(rows * width)) : 0;
}

// INVALID_ARGUMENT where no head can be fitted: none has an offset, or heads that share keys or values differ.
void check_fitting(const Trainer &trainer) {
  const Config &config = trainer.model().config();
  const Supervisor &supervisor = trainer.supervisor();
  const int heads = config.heads, group = heads / config.kv_heads;
  const bool carriers = trainer.config().fitted_norm > 0;
  bool any = false;
  for (int l = 0; l < config.layers; ++l)
    for (int h = 0; h < heads; ++h) any |= supervisor.fits(l, h);
  if (!any)
    fail(Status::INVALID_ARGUMENT,
         "heads are fitted where \"retrieval\" is trained and train.supervised gives them the digit of a value that "
         "they retrieve, [layer, head, digit]; or where train.hand_on is above 0");
  for (int l = 0; l < config.layers; ++l)
    for (int h = 0; h < heads; ++h) {
      const int first = h - h % group;
      if (!carriers && supervisor.offset(l, h) != supervisor.offset(l, first))
        fail(Status::INVALID_ARGUMENT, "train.supervised: heads ", first, " and ", h, " of layer ", l,
             " read the same keys, and must retrieve the same digit");
      if (carriers && supervisor.fits(l, h) != supervisor.fits(l, first))
        fail(Status::INVALID_ARGUMENT, "train.local_supervised: heads ", first, " and ", h, " of layer ", l,
             " read the same values: with hand_on both or none");
    }
}

void fit_carriers(Trainer &trainer, Trainer::Drawn &drawn, Parameters &parameters) {
  const Config &config = trainer.model().config();
  const int64_t width = config.width, values = config.value_size, heads = config.heads, group = heads / config.kv_heads;
  std::map<size_t, Regression> regressions;  // by layer
  const std::vector<int32_t> no_digits;
  std::map<size_t, std::pair<double, int64_t>> lengths;  // of the stream in rows of digits, summed, and how many
  const auto carries = [&](size_t layer, int64_t h) {
    return trainer.supervisor().fits(static_cast<int>(layer), static_cast<int>(h));
  };
  const auto add = [&](const BatchLayout &layout, const LayerView &view) {
    bool any = false;
    for (int64_t h = 0; h < heads; ++h) any |= carries(view.layer, h);
    if (!any) return;
    regressions.try_emplace(view.layer, trainer.gemm(), trainer.compute(), config, no_digits)
        .first->second.add_names(drawn.threads(), layout, view.normed);
    auto &[length, rows] = lengths[view.layer];
    for (int64_t row = 0; row < layout.rows(); ++row)
      if (const float *x = view.x + row * view.x_stride; layout.label[static_cast<size_t>(row)] >= 0)
        length += std::sqrt(static_cast<double>(dot(x, x, width))), ++rows;
  };
  drawn.each_layout(
      [&](const BatchLayout &layout) { drawn.forward([&](const LayerView &view) { add(layout, view); }); });
  std::map<size_t, std::vector<double>> fitted;
  for (const auto &[layer, regression] : regressions) fitted[layer] = regression.solve_names();

  Random random(trainer.config().seed);
  for (const auto &[layer, w] : fitted) {
    // [values][width]: directions that no other name has.
    const double size = trainer.config().fitted_norm * lengths[layer].first /
                        static_cast<double>(lengths[layer].second) / static_cast<double>(group);
    std::vector<double> directions(static_cast<size_t>(values * width));
    for (int64_t j = 0; j < values; ++j) {
      double squares = 0;
      const auto direction = std::span(directions).subspan(static_cast<size_t>(j * width), static_cast<size_t>(width));
      for (double &x : direction) x = random.normal(), squares += x * x;
      for (double &x : direction) x *= size / std::sqrt(squares);
    }
    const Parameters::Layer &of = parameters.layers()[layer];
    for (int64_t h = 0; h < heads; ++h) {
      if (!carries(layer, h)) continue;
      std::transform(w.begin(), w.begin() + values * width, parameters.of(of.v) + h / group * values * width,
                     [](double x) { return static_cast<float>(x); });
      for (int64_t i = 0; i < width; ++i)
        for (int64_t j = 0; j < values; ++j)
          parameters.of(of.attention_output)[(i * heads + h) * values + j] =
              static_cast<float>(directions[static_cast<size_t>(j * width + i)]);
    }
  }
}

// Sets the weights of one group: q and k from W of queries and keys, v from W of keys, o from `directions`, as
// digit_directions() gives them; each head of the group adds an equal share.
void make_heads(Parameters &parameters, const Config &config, int layer, int kv_head, const std::vector<double> &keys,
                const std::vector<double> &queries, const std::vector<float> &directions) {
  const Parameters::Layer &w = parameters.layers()[static_cast<size_t>(layer)];
  const int64_t width = config.width, key_size = config.key_size, value_size = config.value_size,
                group = config.heads / config.kv_heads;
  const auto features = [&](size_t index, int64_t head, const std::vector<double> &from) {
    float *to = parameters.of(index) + head * key_size * width;
    const double *one = from.data() + (key_size + value_size) * width, *offset = one + width;
    for (int64_t i = 0; i < key_size * width; ++i)
      to[i] = static_cast<float>(kName * from[static_cast<size_t>(i)] + kOffset * offset[i % width] -
                                 kBias * one[i % width]);
  };
  features(w.k, kv_head, keys);
  std::transform(keys.begin() + key_size * width, keys.begin() + (key_size + value_size) * width,
                 parameters.of(w.v) + kv_head * value_size * width,
                 [](double value) { return static_cast<float>(value); });
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    features(w.q, h, queries);
    float *o = parameters.of(w.attention_output) + h * value_size;
    for (int64_t i = 0; i < width; ++i)
      for (int64_t j = 0; j < value_size; ++j)
        o[i * config.heads * value_size + j] =
            directions[static_cast<size_t>(j * width + i)] / static_cast<float>(group);
  }
}

// The tokens that are digits of values, ascending.
std::vector<int32_t> digits_of(std::span<const Sequence> sequences) {
  std::set<int32_t> digits;
  for (const Sequence &sequence : sequences)
    for (size_t t = 0; t < sequence.label.size(); ++t)
      if (sequence.label[t] >= 0) digits.insert(sequence.tokens[t]);
  return {digits.begin(), digits.end()};
}

// [value_size][width]: what a group adds to the residual stream for the digit of each column of v, so that the logit of
// the digit rises, against the mean of all digits, by `amount` over the root mean square of the stream.
std::vector<float> digit_directions(const Parameters &parameters, const Config &config,
                                    const std::vector<int32_t> &digits, double amount) {
  const int64_t width = config.width, values = config.value_size;
  const float *norm = parameters.of(parameters.output_norm()), *output = parameters.of(parameters.output());
  std::vector<std::vector<double>> rows;
  std::vector<double> mean(static_cast<size_t>(width));
  for (const int32_t digit : digits) {
    rows.emplace_back();
    for (int64_t i = 0; i < width; ++i) {
      rows.back().push_back(static_cast<double>(norm[i]) * static_cast<double>(output[digit * width + i]));
      mean[static_cast<size_t>(i)] += rows.back().back() / static_cast<double>(digits.size());
    }
  }
  double squares = 0;  // of a row's length
  for (std::vector<double> &row : rows)
    for (size_t i = 0; i < row.size(); ++i)
      row[i] -= mean[i], squares += row[i] * row[i] / static_cast<double>(rows.size());
  std::vector<float> directions(static_cast<size_t>(values * width));
  for (size_t r = 0; r < rows.size(); ++r) {
    float *of_column = directions.data() + static_cast<int64_t>(r) % values * width;
    for (size_t i = 0; i < rows[r].size(); ++i)
      of_column[i] += static_cast<float>(amount * rows[r][i] / std::max(squares, 1e-30));
  }
  return directions;
}

void fit_retrieval(Trainer &trainer, Trainer::Drawn &drawn, Parameters &parameters, double nats) {
  const Config &config = trainer.model().config();
  const int heads = config.heads, group = heads / config.kv_heads;
  std::map<size_t, Regression> regressions;  // by layer
  const std::vector<int32_t> digits = digits_of(drawn.sequences());
  double size = 0;
  drawn.each_layout([&](const BatchLayout &layout) {
    if (size == 0) size = size_before_output(drawn, layout, config);
    drawn.each_retrieval_input([&](size_t layer, ConstRows normed) {
      regressions.try_emplace(layer, trainer.gemm(), trainer.compute(), config, digits)
          .first->second.add(drawn.threads(), layout, normed);
    });
  });
  if (size == 0) fail(Status::INVALID_ARGUMENT, "what was drawn asks for no digit");

  // Layer, KV head, W of keys and of queries.
  using Fitted = std::tuple<int, int, std::vector<double>, std::vector<double>>;
  std::vector<Fitted> fitted;
  for (const auto &[layer, regression] : regressions)
    for (int kv_head = 0; kv_head < config.kv_heads; ++kv_head)
      if (const int32_t offset = trainer.supervisor().offset(static_cast<int>(layer), kv_head * group); offset >= 0)
        fitted.emplace_back(static_cast<int>(layer), kv_head, regression.solve(offset, false),
                            regression.solve(offset, true));
  const std::vector<float> directions = digit_directions(parameters, config, digits, nats * size);
  for (const auto &[layer, kv_head, keys, queries] : fitted)
    make_heads(parameters, config, layer, kv_head, keys, queries, directions);
}

}  // namespace

void fit_heads(Trainer &trainer, double nats, Task *task) {
  check_fitting(trainer);
  trainer.initialise("fit heads", task, [&](Trainer::Drawn &drawn, Parameters &parameters) {
    if (trainer.config().fitted_norm > 0) fit_carriers(trainer, drawn, parameters);
    else fit_retrieval(trainer, drawn, parameters, nats);
  });
}

}  // namespace infini
