// The solver of fits, on every instruction set here, beside products that are summed one after the other.
#include "support.h"

#include "base/random.h"
#include "base/testing.h"
#include "gemm/solve.h"
#include "instruction_sets.h"
#include "kernels/doubles.h"

using namespace infini;

namespace {

std::vector<double> random_doubles(Random &random, int64_t n) {
  std::vector<double> values(static_cast<size_t>(n));
  for (double &value : values) value = random.normal();
  return values;
}

// m^T m + n * 1: positive definite, and well enough conditioned that a solution is right in 12 digits.
std::vector<double> positive(Random &random, int64_t n) {
  const std::vector<double> m = random_doubles(random, n * n);
  std::vector<double> a(static_cast<size_t>(n * n), 0);
  for (int64_t k = 0; k < n; ++k)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        a[static_cast<size_t>(i * n + j)] += m[static_cast<size_t>(k * n + i)] * m[static_cast<size_t>(k * n + j)];
  for (int64_t i = 0; i < n; ++i) a[static_cast<size_t>(i * (n + 1))] += static_cast<double>(n);
  return a;
}

}  // namespace

TEST_CASE("products are subtracted as they are summed one after the other") {
  Random random(3);
  test::on_every_instruction_set({"avx2", "avx512", "best"}, [&] {
    for (const int64_t rows : {1, 3, 4, 9, 66})
      for (const int64_t columns : {1, 5, 8, 16, 19, 33})
        for (const int64_t depth : {0, 1, 7, 33})
          for (const bool transposed : {false, true}) {
            const std::vector<double> a = random_doubles(random, 70 * 70), b = random_doubles(random, 70 * 70);
            std::vector<double> c = random_doubles(random, 70 * 70), expected = c;
            const int64_t a_row = transposed ? 1 : 70, a_column = transposed ? 70 : 1;
            subtract_product(a.data(), a_row, a_column, rows, b.data(), 70, depth, columns, c.data(), 70);
            double worst = 0;
            for (int64_t i = 0; i < 70; ++i)
              for (int64_t j = 0; j < 70; ++j) {
                double &sum = expected[static_cast<size_t>(i * 70 + j)];
                for (int64_t k = 0; k < depth && i < rows && j < columns; ++k)
                  sum -= a[static_cast<size_t>(i * a_row + k * a_column)] * b[static_cast<size_t>(k * 70 + j)];
                worst = test::larger(worst, std::abs(sum - c[static_cast<size_t>(i * 70 + j)]));
              }
            REQUIRE(worst < 1e-13);
          }
  });
}

TEST_CASE("what a positive definite matrix is solved for gives the right side again") {
  Random random(5);
  for (const int64_t n : {1, 2, 31, 32, 33, 64, 97, 200})
    for (const int64_t columns : {1, 2, 19}) {
      const std::vector<double> a = positive(random, n), b = random_doubles(random, n * columns);
      std::vector<double> spoilt = a, x = b;
      REQUIRE(solve_positive(n, columns, spoilt.data(), x.data()));
      double worst = 0;
      for (int64_t c = 0; c < columns; ++c)
        for (int64_t i = 0; i < n; ++i) {
          double sum = -b[static_cast<size_t>(c * n + i)];
          for (int64_t j = 0; j < n; ++j) sum += a[static_cast<size_t>(i * n + j)] * x[static_cast<size_t>(c * n + j)];
          worst = test::larger(worst, std::abs(sum));
        }
      CAPTURE(n);
      REQUIRE(worst < 1e-11);
    }
}

TEST_CASE("a matrix that is not positive definite, or not finite, is refused") {
  Random random(6);
  const int64_t n = 70;
  for (const double wrong : {0.0, -1.0, std::numeric_limits<double>::infinity(), std::nan("")})
    for (const int64_t at : {0, 40, 69}) {
      std::vector<double> a = positive(random, n), b(static_cast<size_t>(n), 1);
      a[static_cast<size_t>(at * (n + 1))] = wrong;
      CHECK_FALSE(solve_positive(n, 1, a.data(), b.data()));
    }
  std::vector<double> a = positive(random, n), b(static_cast<size_t>(n), std::nan(""));
  CHECK_FALSE(solve_positive(n, 1, a.data(), b.data()));
}
