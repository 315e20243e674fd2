// Random numbers that are the same on every build: xoshiro256++ (Blackman, Vigna), whose 32 bytes of state
// are part of a session.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace infini {

class Random {
 public:
  explicit Random(uint64_t seed = 0) {
    for (uint64_t &word : state_) {  // splitmix64 spreads any seed, 0 included
      uint64_t z = (seed += 0x9e3779b97f4a7c15u);
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      word = z ^ (z >> 31);
    }
  }

  uint64_t next() {
    const uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0], shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }
  // Uniform in [0, 1), a multiple of 2^-53.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // Standard normal (Box and Muller).
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

  const std::array<uint64_t, 4> &state() const { return state_; }
  void set_state(const std::array<uint64_t, 4> &state) { state_ = state; }

 private:
  std::array<uint64_t, 4> state_;
};

}  // namespace infini
