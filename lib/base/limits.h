// The largest numbers that options, settings, keys of files and snapshots may say. What is within them fits an int, and
// so do sums of a few.
#pragma once

#include <cstdint>

namespace infini {

inline constexpr int kMostLayers = 4096;
inline constexpr int kMostHeadSize = 1024;  // numbers of one key, or value
inline constexpr int kMostWindow =
    1 << 24;                              // tokens that local attention sees: sinks, kept, carry and segment together
inline constexpr int kMostSinks = 65536;  // tokens
inline constexpr int kMostKept = 65536;   // tokens of kept sentences
inline constexpr int kMostVocabulary = 1 << 24;  // tokens
inline constexpr int kMostCheckpoints = 4096;    // of a session
inline constexpr int kMostRecent = 65536;        // tokens that penalties look at

}  // namespace infini
