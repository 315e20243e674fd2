// The largest numbers that options, settings, keys of files and snapshots may say. What is within them fits an int, and
// so do sums of a few.
#pragma once

namespace infini {

inline constexpr int kMostThreads = 1024;
inline constexpr int kMostLayers = 4096;
inline constexpr int kMostHeadSize = 1024;  // numbers of one key, or value
inline constexpr int kMostVocabulary = 1 << 24;
// Tokens that local attention sees: sinks, kept ones, carry and segment together.
inline constexpr int kMostWindow = 1 << 24;
// Of a segment, or a carry, that can be asked for: whether the window that they make is small enough is checked, and
// said, once all of it is known.
inline constexpr int kMostAsked = 2147483647 / 4;
inline constexpr int kMostSinks = 65536;
inline constexpr int kMostKept = 65536;
// Of a session: checkpoints, and tokens that penalties look at.
inline constexpr int kMostCheckpoints = 4096;
inline constexpr int kMostRecent = 65536;

}  // namespace infini
