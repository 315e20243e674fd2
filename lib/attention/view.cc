// Where the keys in view stand in the stream, and how those before the window are rotated.
#include <algorithm>

#include "attention/view.h"

namespace infini {

View View::through(const AttentionShape &shape) const {
  if (shape.window == 0) return *this;
  View own = *this;
  own.sinks = own.kept = 0;
  own.window_begin = std::max(origin, segment_begin - shape.carry);
  return own;
}

View View::closed(const AttentionShape &shape) const {
  View after = *this;
  after.memory_tokens += open();
  after.segment_begin = position;
  after.window_begin = std::max(origin, position - shape.carry);
  after.sinks = std::min<int64_t>(shape.sinks, after.window_begin - origin);
  return after;
}

void FrontAngles::prepare(const Threads &threads, const Rope &rope, const View &view) {
  if (rope_ == &rope && begin_ == view.window_begin && front_ == view.front()) return;
  rope_ = nullptr;  // until all is there
  cosine.resize(static_cast<size_t>(view.front() * (rope.dimensions / 2)));
  sine.resize(cosine.size());
  const int64_t half = rope.dimensions / 2;
  parallel_for(threads, view.front(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      rope.angles(view.window_begin - view.front() + i, cosine.data() + i * half, sine.data() + i * half);
  });
  rope_ = &rope, begin_ = view.window_begin, front_ = view.front();
}

}  // namespace infini
