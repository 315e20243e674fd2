// What every unit test needs: doctest's main, paths of fixtures, and honest comparisons.
#pragma once

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace test {

// A file of tests/fixtures.
inline std::string fixture(const std::string &name) { return std::string(INFINI_SOURCE_DIR "/tests/fixtures/") + name; }

// A file of the development data, whose folder the environment variable INFINI_TEST_DATA names; "" where
// it is not set: then the test says that it is skipped, and returns.
inline std::string data(const std::string &name) {
  const char *folder = std::getenv("INFINI_TEST_DATA");
  if (!folder || !*folder) {
    std::printf("skipped: needs %s, set INFINI_TEST_DATA to the folder of test data\n", name.c_str());
    return "";
  }
  return std::string(folder) + "/" + name;
}

inline std::string read_text(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), "cannot read " << path);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <class T>
std::vector<T> read_numbers(const std::string &path) {
  const std::string bytes = read_text(path);
  REQUIRE(bytes.size() % sizeof(T) == 0);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char *>(values.data()));
  return values;
}

// The larger one; infinite where one is not finite, which no comparison would show.
inline double larger(double a, double b) {
  return std::isfinite(a) && std::isfinite(b) ? std::max(a, b) : std::numeric_limits<double>::infinity();
}

// The largest |a - b|; infinite if a length differs or a value is not finite.
inline double largest_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return largest;
}

inline double standard_deviation(std::span<const float> values) {
  double mean = 0, squares = 0;
  for (const float value : values) mean += value / static_cast<double>(values.size());
  for (const float value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

// The largest difference over the standard deviation of the expected values: how parity of logits is judged.
inline double relative_difference(std::span<const float> actual, std::span<const float> expected) {
  return largest_difference(actual, expected) / standard_deviation(expected);
}

}  // namespace test
