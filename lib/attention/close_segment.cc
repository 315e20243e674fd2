// What happens where a segment ends: it goes into the memories, and the window moves on.
#include <utility>

#include "attention/attention.h"

namespace infini {
namespace {

constexpr int64_t kFoldTokens = 256;  // widened to f32 together

// scratch: kFoldTokens rows, each of a key, two values and a number.
void fold(const AttentionRules &rules, const Window &window, Memory &memory, const View &view, int kv_head,
          float *scratch) {
  const auto take = [&](int64_t floats) { return std::exchange(scratch, scratch + round_up(floats, 16)); };
  float *const keys = take(kFoldTokens * memory.key_size()), *const values = take(kFoldTokens * memory.value_stride());
  float *const known = take(kFoldTokens * memory.value_stride()), *const denominator = take(kFoldTokens);
  memory.fold({view.open(), view.memory_tokens, kFoldTokens, rules.epsilon}, [&](int64_t first, int64_t count) {
    window.raw_keys(kv_head, first, count, keys);
    memory.kind().feature(keys, count * memory.key_size(), keys);
    window.raw_values(kv_head, view.index_of(view.segment_begin + first), count, values);
    return FoldRows{count, dense_tile(keys, memory.key_size()), {values, count}, {known, count}, denominator};
  });
}

// A layer with a window of its own moves it on; nothing is folded, and nothing stands before the window.
void close_own(const AttentionRules &rules, LayerState &layer, const View &view) {
  Closing closing;
  closing.after = view.closed(rules.shape);
  for (int h = 0; h < rules.shape.kv_heads; ++h) layer.window.close(view, closing, h, rules.rope, {});
}

}  // namespace

int64_t AttentionScratch::fold_size(const AttentionShape &shape) {
  return kFoldTokens * (shape.key_size + 2 * round_up(shape.value_size, kPanel) + 1) + 3 * 16;
}

void close_segment(const Threads &threads, const AttentionRules &rules, LayerState &layer, const View &view,
                   const Closing &closing, FrontAngles &angles, AttentionScratch &scratch) {
  if (rules.shape.window > 0) return close_own(rules, layer, view.through(rules.shape));
  angles.prepare(threads, rules.rope, closing.after);
  const int64_t operations = view.open() * rules.shape.kv_heads * rules.shape.key_size * rules.shape.value_size;
  parallel_items(threads, rules.shape.kv_heads, operations, [&](int64_t kv_head, const Threads &here) {
    const int h = static_cast<int>(kv_head);
    Memory &memory = layer.memory[h];
    if (memory) fold(rules, layer.window, memory, view, h, scratch.of_thread(here.index()));
    layer.window.close(view, closing, h, rules.rope, angles);
  });
}

}  // namespace infini
