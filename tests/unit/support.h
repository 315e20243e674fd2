// What every unit test needs: paths of fixtures, what is skipped, and honest comparisons. unit/main.cc is its main.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "sanitized.h"

namespace test {

// The option `gemm`, with one library beside the core's own products, where this build has one.
constexpr const char *kGemms[] = {"auto", "native", INFINI_OPENBLAS ? "openblas" : INFINI_ONEDNN ? "onednn" : "native"};

// Whether a file that is being read may be replaced.
#ifdef _WIN32
constexpr bool kReplacesOpenFiles = false;
#else
constexpr bool kReplacesOpenFiles = true;
#endif

// A file of tests/fixtures.
inline std::string fixture(const std::string &name) { return std::string(INFINI_SOURCE_DIR "/tests/fixtures/") + name; }

// TEST_CASE("..." * test::needs(there, "what")): where `what` is not there, the case counts as skipped and says so.
struct needs {
  needs(bool is_there, const char *of) : there(is_there), what(of) {}
  bool there;
  const char *what;
  void fill(doctest::detail::TestCase &test) const {
    if (there) return;
    test.m_skip = true;
    test.m_description = what;
  }
  void fill(doctest::detail::TestSuite &) const {}
};

constexpr bool kSanitized = TEST_SANITIZED;
inline needs needs_speed() { return {!kSanitized, "a build without a sanitizer, under which this takes minutes"}; }

// The folder of development data, which the environment variable INFINI_TEST_DATA names, or "".
inline std::string data_folder() {
  const char *folder = std::getenv("INFINI_TEST_DATA");
  return folder ? folder : "";
}
inline needs needs_data() { return {!data_folder().empty(), "set INFINI_TEST_DATA to the folder of development data"}; }

// A file of the development data, for a case that needs_data().
inline std::string data(const std::string &name) {
  REQUIRE_MESSAGE(!data_folder().empty(), "this case is not marked as one that needs_data()");
  return data_folder() + "/" + name;
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
