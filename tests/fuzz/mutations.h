// Damaged files, for as long as it is told.
//
//   PROGRAM [SECONDS [SEED [ITERATION]]]     also INFINI_FUZZ_SECONDS and INFINI_FUZZ_SEED
//   INFINI_FUZZ_FILES: at least so many files, however long that takes
//
// A file depends on the seed and its number alone: a failure is repeated by the seed and number printed.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <fstream>
#include <iterator>
#include <new>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "../unit/gguf_bytes.h"
#include "base/status.h"
#include "format/gguf.h"

namespace fuzz {

using Clock = std::chrono::steady_clock;

constexpr double kLongestRun = 10;  // seconds of the processor for one file, sanitizers included

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Original {
  std::string bytes;
  size_t head;  // bytes before the first tensor's data, where nearly every mutation goes
};

inline Original original(std::string bytes) {
  const auto gguf = infini::Gguf::parse(test::as_bytes(bytes), "original");
  const auto head = gguf.tensors()[0].data.data() - test::as_bytes(bytes).data();
  return {std::move(bytes), static_cast<size_t>(head)};
}

class Mutator {
 public:
  Mutator(uint64_t seed, uint64_t iteration) {
    std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                           static_cast<uint32_t>(iteration), static_cast<uint32_t>(iteration >> 32)};
    random_.seed(sequence);
  }

  std::string mutate(const std::vector<Original> &originals) {
    const Original &from = originals[below(originals.size())];
    head_ = from.head;
    bytes_ = from.bytes;
    for (size_t i = 1 + below(2) * below(4); i > 0 && !bytes_.empty(); --i) step(originals);
    return std::move(bytes_);
  }

 private:
  size_t below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random_); }
  size_t position() { return below(below(10) ? std::min(head_, bytes_.size()) : bytes_.size()); }
  size_t length() { return size_t{1} << below(9); }

  uint64_t extreme() {
    constexpr uint64_t kValues[] = {0,
                                    1,
                                    2,
                                    0x7f,
                                    0x80,
                                    0xff,
                                    0xffff,
                                    0x10000,
                                    0x7fffffff,
                                    0x80000000,
                                    0xffffffff,
                                    uint64_t{1} << 32,
                                    uint64_t{1} << 40,
                                    uint64_t{1} << 61,
                                    ~uint64_t{0} >> 1,
                                    uint64_t{1} << 63,
                                    ~uint64_t{0} - 7,
                                    ~uint64_t{0}};
    return below(4) ? kValues[below(std::size(kValues))] : bytes_.size() - 64 + below(128);
  }

  void overwrite(size_t at, uint64_t value, size_t size) {
    if (at < bytes_.size()) std::memcpy(&bytes_[at], &value, std::min(size, bytes_.size() - at));
  }

  // A place that looks like a length, count, type or offset: eight bytes of a small number.
  size_t field() {
    for (int attempts = 0; attempts < 64; ++attempts) {
      const size_t at = position();
      uint64_t value = 0;
      std::memcpy(&value, &bytes_[at], std::min<size_t>(8, bytes_.size() - at));
      if (value > 0 && value <= 4096) return at;
    }
    return below(3) * 8;
  }

  void step(const std::vector<Original> &originals) {
    const size_t at = position();
    switch (below(9)) {
      case 0: bytes_[at] = static_cast<char>(bytes_[at] ^ (1 << below(8))); break;
      case 1: bytes_[at] = static_cast<char>(below(256)); break;
      case 2: bytes_.resize(at); break;
      case 3: bytes_.erase(at, length()); break;
      case 4: bytes_.insert(at, bytes_.substr(position(), length())); break;
      case 5: {
        const Original &other = originals[below(originals.size())];
        bytes_.replace(at, length(), other.bytes.substr(below(other.head), length()));
        break;
      }
      case 6: overwrite(field(), extreme(), 8); break;
      case 7: overwrite(field(), extreme(), 4); break;
      default: overwrite(8 + below(2) * 8, extreme(), 8); break;
    }
  }

  std::mt19937_64 random_;
  std::string bytes_;
  size_t head_ = 0;
};

inline double number_from(const char *variable, double absent) {
  const char *text = std::getenv(variable);
  return text && *text ? std::strtod(text, nullptr) : absent;
}

// Whether a model, or what changes one, is accepted by `use`, which reads and writes with it.
template <class Use>
bool accepts(const Use &use) {
  try {
    use();
  } catch (const infini::Error &error) {
    // What a damaged number may lead to: INVALID_ARGUMENT is "no token is possible", for logits that are not finite.
    const infini::Status status = error.status();
    if (status == infini::Status::INTERNAL || status == infini::Status::STATE || std::string(error.what()).empty())
      throw;
    return false;
  } catch (const std::bad_alloc &) {
    return false;  // a window that the file asks for and this machine cannot hold
  }
  return true;
}

// touch(bytes) says whether the file was accepted, and lets through any exception that a bad file must not cause.
template <class Touch>
int run_mutations(int argc, char **argv, const std::vector<Original> &originals, const Touch &touch) {
  const double limit = argc > 1 ? std::strtod(argv[1], nullptr) : number_from("INFINI_FUZZ_SECONDS", 10);
  const char *seed_text = argc > 2 ? argv[2] : std::getenv("INFINI_FUZZ_SEED");
  const uint64_t seed = seed_text && *seed_text ? std::strtoull(seed_text, nullptr, 10) : std::random_device{}();
  const bool once = argc > 3;
  const double least = number_from("INFINI_FUZZ_FILES", 0);
  uint64_t iteration = once ? std::strtoull(argv[3], nullptr, 10) : 0;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);

  uint64_t accepted = 0, refused = 0;
  const auto start = Clock::now();
  do {
    const std::clock_t begin = std::clock();
    try {
      const std::string mutated = Mutator(seed, iteration).mutate(originals);
      const std::vector<char> exact(mutated.begin(), mutated.end());  // ends where its memory ends
      ++(touch(std::as_bytes(std::span(exact))) ? accepted : refused);
      if (static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC > kLongestRun)
        throw std::runtime_error("it took too long");
    } catch (const std::exception &error) {
      std::printf("FAILED: seed %llu, file %llu: %s\n", static_cast<unsigned long long>(seed),
                  static_cast<unsigned long long>(iteration), error.what());
      return 1;
    }
    ++iteration;
  } while (!once && (seconds_since(start) < limit || static_cast<double>(accepted + refused) < least));
  std::printf("%llu files accepted, %llu refused, %.0f a second\n", static_cast<unsigned long long>(accepted),
              static_cast<unsigned long long>(refused), static_cast<double>(accepted + refused) / seconds_since(start));
  return 0;
}

}  // namespace fuzz
