// Checksums and fingerprints: XXH3 with 128 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace infini {

class Hash {
 public:
  Hash();
  ~Hash();
  void add(const void *data, size_t size);
  // A text with its length, so that no two sequences of texts hash alike.
  void add(std::string_view text);
  template <class Number>
  void add_number(Number value) {
    add(&value, sizeof value);
  }
  std::string hex() const;  // 32 digits of everything added so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A number of this process, which no file can know: for tables whose keys come from files.
uint64_t table_secret();

// Of such a table's texts.
struct TextHash {
  size_t operator()(std::string_view text) const;
};

// XXH3 with 64 bits of bytes that come in pieces.
class StreamChecksum {
 public:
  StreamChecksum();
  ~StreamChecksum();
  void add(const void *data, size_t size);
  uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The same of one piece of memory.
uint64_t checksum(const void *data, size_t size);

}  // namespace infini
