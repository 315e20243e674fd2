// Heads of the memory that are initialised by ridge regression. A group of heads with a digit index retrieves one digit of
// a value. Features of its keys are near 0 but at tokens with that index, where they encode the name; features of its queries
// are near 0 but where that digit is asked for, and encode the name that is asked. The residual stream holds both linearly once
// heads below carry names to digits (local_supervision): regression finds them, where gradients from random weights do not.
//
//   W = argmin sum over rows r of w_r |W x_r - y_r|^2 + lambda |W|^2
//   sigma(q) = sigma(kNamed * (W x of the name) + kPlaced * (W x of the index) - kOthers * (W x of one))
//
// y has a column for every name, which is 1 in rows of that name, one for every digit, one for the digit index, and one that
// is 1 in all rows. Columns of names are fitted to rows with the index alone (w is 0 elsewhere); the column of the index
// separates those from the others. Each part is nearly 1 or 0, and features are near 0 unless both are 1. v is the digit, and
// o raises its logit: the rows of the output layer that belong to digits, less their mean.
//
// The values that carrier heads below would copy from a name's token are whatever the model had there, which hardly separates
// one name from others in the layers above. So their v and o are fitted too: v is the name, W as above of rows that
// hold one, and o writes a direction of its own for each.
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
#include "kernels/gradients.h"

namespace infini {
namespace {

constexpr double kPlaceWeight = 100;  // of a row with the digit index, where others weigh 1
constexpr double kRidge = 1e-4,
                 kNameRidge = 1e-3;  // lambda, of the mean of the diagonal; of names among rows with the digit index
constexpr double kNamed = 20, kPlaced = 20, kOthers = 30;

// Of rows x: the sum of x x^T, and for each column of y that of y x.
struct Sums {
  Sums(int64_t width, int64_t columns) : squares(width * width), products(columns * width) {}
  Buffer<float> squares;   // [width][width]
  Buffer<float> products;  // [columns][width]
};

// What one layer is fed.
class Regression {
 public:
  // `digits`: their tokens, ascending.
  Regression(const Gemm &gemm, NumberType compute, const Config &config, const std::vector<int32_t> &digits)
      : gemm_(gemm), compute_(compute), width_(config.width), keys_(config.key_size), values_(config.value_size),
        digits_(digits), all_(width_, columns()) {}

  // Columns of y. More names than features of a key share them, and so do digits and values.
  int64_t digit(int32_t token) const {
    return keys_ + (std::lower_bound(digits_.begin(), digits_.end(), token) - digits_.begin()) % values_;
  }
  int64_t one() const { return keys_ + values_; }

  void add(const Threads &threads, const Layout &layout, ConstRows x) {
    std::map<int32_t, std::vector<int64_t>> held, asked;  // rows by digit index
    for (int64_t row = 0; row < layout.rows(); ++row) {
      const auto labelled = [&](int64_t at) { return layout.name[static_cast<size_t>(at)] >= 0; };
      if (labelled(row)) held[layout.place[static_cast<size_t>(row)]].push_back(row);
      if (const int32_t place = layout.asked(row); place >= 0 && labelled(row + 1)) asked[place].push_back(row);
    }
    const auto name = [&](int64_t row) { return layout.name[static_cast<size_t>(row)] % keys_; };
    add_all(threads, layout, x);
    for (const auto &[place, of_place] : held)
      add(threads, of_place, x, sums(keys_of_, place),
          [&](int64_t row, auto &y) { y[name(row)] = y[digit(layout.tokens[static_cast<size_t>(row)])] = true; });
    for (const auto &[place, of_place] : asked)
      add(threads, of_place, x, sums(queries_of_, place), [&](int64_t row, auto &y) { y[name(row + 1)] = true; });
  }

  // Rows of names that local attention is to look at. More names than a value has numbers share them.
  void add_names(const Threads &threads, const Layout &layout, ConstRows x) {
    std::map<int64_t, int64_t> named;  // row, number of the name
    for (size_t row = 0; row < layout.subject.size(); ++row)
      if (layout.subject[row] >= 0 && layout.name[row] >= 0) named[layout.subject[row]] = layout.name[row];
    add_all(threads, layout, x);
    if (named.empty()) return;
    std::vector<int64_t> rows;
    for (const auto &[row, name] : named) rows.push_back(row);
    if (!names_) names_.emplace(width_, columns());
    add(threads, rows, x, *names_, [&](int64_t row, auto &y) { y[named[row] % values_] = true; });
  }

  // W [columns + 1][width] of keys, or of queries; the last is the digit index's.
  std::vector<double> solve(int32_t place, bool queries) const {
    const auto &of = queries ? queries_of_ : keys_of_;
    const auto found = of.find(place);
    if (found == of.end())
      fail(Status::INVALID_ARGUMENT, "what was drawn ", queries ? "asks for" : "holds", " no digit at place ", place);
    return solve(found->second, keys_);
  }
  // Of names, by number.
  std::vector<double> solve_names() const {
    if (!names_) fail(Status::INVALID_ARGUMENT, "what was drawn tells local attention to look at no name");
    return solve(*names_, 0);
  }

 private:
  // W of names (whose number is `named`), then of digits and of one, and of the digit index.
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
        const bool place = column == columns();
        w[static_cast<size_t>((column - named) * width_ + i)] =
            column == one() ? product(all_, one(), i) + (kPlaceWeight - 1) * product(own, one(), i)
                            : kPlaceWeight * product(own, place ? one() : column, i);
      }
    if (named > 0) solve(0, 1, own, kNameRidge, names);
    solve(1, kPlaceWeight - 1, own, kRidge, w);
    names.insert(names.end(), w.begin(), w.end());
    return names;
  }
  // w becomes W, where it was the sum of y x^T over rows that weigh `all`, and `more` of them `own` in addition.
  void solve(double all, double more, const Sums &own, double ridge, std::vector<double> &w) const {
    std::vector<double> a(static_cast<size_t>(width_ * width_));
    double trace = 0;
    for (size_t i = 0; i < a.size(); ++i)
      a[i] = all * static_cast<double>(all_.squares[static_cast<int64_t>(i)]) +
             more * static_cast<double>(own.squares[static_cast<int64_t>(i)]);
    for (int64_t i = 0; i < width_; ++i) trace += a[static_cast<size_t>(i * (width_ + 1))];
    for (int64_t i = 0; i < width_; ++i)
      a[static_cast<size_t>(i * (width_ + 1))] += ridge * trace / static_cast<double>(width_);
    if (!solve_positive(static_cast<int>(width_), static_cast<int>(static_cast<int64_t>(w.size()) / width_), a.data(),
                        w.data()))
      fail(Status::INVALID_ARGUMENT, "what the layer is fed is not finite, or always 0: there is nothing to fit");
  }

  int64_t columns() const { return keys_ + values_ + 1; }
  Sums &sums(std::map<int32_t, Sums> &of, int32_t place) {
    return of.try_emplace(place, width_, columns()).first->second;
  }

  void add_all(const Threads &threads, const Layout &layout, ConstRows x) {
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
        if (y[c] && compute_ == NumberType::F32) reinterpret_cast<float *>(y_.data())[at] = 1;
        if (y[c] && compute_ == NumberType::BF16) reinterpret_cast<uint16_t *>(y_.data())[at] = 0x3f80;
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
  std::optional<Sums> names_;                     // of rows of names that carriers look at
  std::map<int32_t, Sums> keys_of_, queries_of_;  // by digit index
  Buffer<char> x_, y_;
};

// Root of the mean square of what the last layer is fed, in rows that ask for a digit.
double size_before_output(Trainer::Drawn &drawn, const Layout &layout, const Config &config) {
  double squares = 0;
  int64_t rows = 0;
  const int64_t width = config.width;
  const Watch watch = [&](const LayerView &view) {
    if (view.layer + 1 < static_cast<size_t>(config.layers)) return;
    for (int64_t row = 0; row < layout.rows(); ++row)
      if (layout.asked(row) >= 0)
        squares += static_cast<double>(dot(view.x + row * view.x_stride, view.x + row * view.x_stride, width)), ++rows;
  };
  drawn.forward(watch);
  return rows > 0 ? std::sqrt(squares / static_cast<double>(rows * width)) : 0;
}

// Throws where heads cannot begin anew: none has an offset, or heads that share keys or values differ.
void check_fitting(const Trainer &trainer) {
  const Config &config = trainer.model().config();
  const std::vector<int32_t> &offsets = trainer.supervisor().offsets();
  const int heads = config.heads, group = heads / config.kv_heads;
  const bool carriers = trainer.config().hand_on > 0;
  if (!carriers && (trainer.config().part != TrainedPart::RETRIEVAL ||
                    std::none_of(offsets.begin(), offsets.end(), [](int32_t offset) { return offset >= 0; })))
    fail(Status::INVALID_ARGUMENT,
         "heads begin as a regression where \"retrieval\" is trained and train.supervised gives them a place in a "
         "value: "
         "[layer, head, offset]; or where train.hand_on is above 0");
  for (int l = 0; l < config.layers; ++l)
    for (int h = 0; h < heads; ++h) {
      const int first = h - h % group;
      const auto offset = [&](int head) { return offsets[static_cast<size_t>(l * heads + head)]; };
      if (!carriers && offset(h) != offset(first))
        fail(Status::INVALID_ARGUMENT, "train.supervised: heads ", first, " and ", h, " of layer ", l,
             " read the same keys, and need the same offset");
      if (carriers &&
          trainer.supervisor().supervises_locally(l, h) != trainer.supervisor().supervises_locally(l, first))
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
    return trainer.supervisor().supervises_locally(static_cast<int>(layer), static_cast<int>(h));
  };
  const auto add = [&](const Layout &layout, const LayerView &view) {
    bool any = false;
    for (int64_t h = 0; h < heads; ++h) any |= carries(view.layer, h);
    if (!any) return;
    regressions.try_emplace(view.layer, trainer.model().weights().gemm, trainer.compute(), config, no_digits)
        .first->second.add_names(drawn.threads(), layout, view.normed);
    auto &[length, rows] = lengths[view.layer];
    for (int64_t row = 0; row < layout.rows(); ++row)
      if (const float *x = view.x + row * view.x_stride; layout.name[static_cast<size_t>(row)] >= 0)
        length += std::sqrt(static_cast<double>(dot(x, x, width))), ++rows;
  };
  drawn.each_layout([&](const Layout &layout) { drawn.forward([&](const LayerView &view) { add(layout, view); }); });
  std::map<size_t, std::vector<double>> fitted;
  for (const auto &[layer, regression] : regressions) fitted[layer] = regression.solve_names();

  Random random(trainer.config().seed);
  for (const auto &[layer, w] : fitted) {
    // [values][width]: directions that no other name has.
    const double size = trainer.config().hand_on * lengths[layer].first / static_cast<double>(lengths[layer].second) /
                        static_cast<double>(group);
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

// One group: q and k from W of queries and keys, v from that of keys; of `said` each head adds its share.
void make_heads(Parameters &parameters, const Config &config, int layer, int kv_head, const std::vector<double> &keys,
                const std::vector<double> &queries, const std::vector<float> &said) {
  const Parameters::Layer &w = parameters.layers()[static_cast<size_t>(layer)];
  const int64_t width = config.width, key_size = config.key_size, value_size = config.value_size,
                group = config.heads / config.kv_heads;
  const auto features = [&](size_t index, int64_t head, const std::vector<double> &from) {
    float *to = parameters.of(index) + head * key_size * width;
    const double *one = from.data() + (key_size + value_size) * width, *place = one + width;
    for (int64_t i = 0; i < key_size * width; ++i)
      to[i] = static_cast<float>(kNamed * from[static_cast<size_t>(i)] + kPlaced * place[i % width] -
                                 kOthers * one[i % width]);
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
        o[i * config.heads * value_size + j] = said[static_cast<size_t>(j * width + i)] / static_cast<float>(group);
  }
}

// Tokens of digits, ascending.
std::vector<int32_t> digits_of(std::span<const Sequence> sequences) {
  std::set<int32_t> digits;
  for (const Sequence &sequence : sequences)
    for (size_t t = 0; t < sequence.label.size(); ++t)
      if (sequence.label[t] >= 0) digits.insert(sequence.tokens[t]);
  return {digits.begin(), digits.end()};
}

// [value_size][width]: what a head's output is to add to the residual stream for the digit of each of its columns, so that
// the digit's logit rises by `amount` over the size of the stream against the mean of the digits.
std::vector<float> what_digits_say(const Parameters &parameters, const Config &config,
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
  std::vector<float> said(static_cast<size_t>(values * width));
  for (size_t r = 0; r < rows.size(); ++r) {
    float *of_column = said.data() + static_cast<int64_t>(r) % values * width;
    for (size_t i = 0; i < rows[r].size(); ++i)
      of_column[i] += static_cast<float>(amount * rows[r][i] / std::max(squares, 1e-30));
  }
  return said;
}

void fit_retrieval(Trainer &trainer, Trainer::Drawn &drawn, Parameters &parameters, double nats) {
  const Config &config = trainer.model().config();
  const int heads = config.heads, group = heads / config.kv_heads;
  std::map<size_t, Regression> regressions;  // by layer
  const std::vector<int32_t> digits = digits_of(drawn.sequences());
  double size = 0;
  drawn.each_layout([&](const Layout &layout) {
    if (size == 0) size = size_before_output(drawn, layout, config);
    drawn.feed_supervised([&](size_t layer, ConstRows normed) {
      regressions.try_emplace(layer, trainer.model().weights().gemm, trainer.compute(), config, digits)
          .first->second.add(drawn.threads(), layout, normed);
    });
  });
  if (size == 0) fail(Status::INVALID_ARGUMENT, "what was drawn asks for no digit");

  using Fitted =
      std::tuple<int, int, std::vector<double>, std::vector<double>>;  // layer, KV head, W of keys and of queries
  std::vector<Fitted> fitted;
  for (const auto &[layer, regression] : regressions)
    for (int kv_head = 0; kv_head < config.kv_heads; ++kv_head)
      if (const int32_t place =
              trainer.supervisor().offsets()[layer * static_cast<size_t>(heads) + static_cast<size_t>(kv_head * group)];
          place >= 0)
        fitted.emplace_back(static_cast<int>(layer), kv_head, regression.solve(place, false),
                            regression.solve(place, true));
  const std::vector<float> said = what_digits_say(parameters, config, digits, nats * size);
  for (const auto &[layer, kv_head, keys, queries] : fitted)
    make_heads(parameters, config, layer, kv_head, keys, queries, said);
}

}  // namespace

void fit_heads(Trainer &trainer, double nats, Task *task) {
  check_fitting(trainer);
  trainer.initialise("fit heads", task, [&](Trainer::Drawn &drawn, Parameters &parameters) {
    if (trainer.config().hand_on > 0) fit_carriers(trainer, drawn, parameters);
    else fit_retrieval(trainer, drawn, parameters, nats);
  });
}

}  // namespace infini
