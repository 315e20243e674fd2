#include "model/worth.h"

#include <algorithm>
#include <cmath>

namespace infini {

Worth::Worth(const Threads &threads, const Model &model, std::span<const StateTokens> chunk, Workspace &workspace)
    : threads_(threads), model_(model), shape_(model.rules().attention.shape), probe_(model.config().memory.probe),
      chunk_(chunk), workspace_(workspace), tokens_(workspace.ids) {
  workspace.raised.resize(chunk.size());
  for (std::vector<RaisedSpan> &raised : workspace.raised) raised.clear();
  if (shape_.keep == 0) return;
  const auto count = static_cast<size_t>(count_tokens(chunk));
  workspace.worth.assign(count, 0);
  workspace.ends.assign(count, 0);
  tokens_.clear();
  for (const StateTokens &one : chunk) tokens_.insert(tokens_.end(), one.tokens.begin(), one.tokens.end());
  for (size_t row = 0; row < count; ++row) workspace.ends[row] = model.ends_sentence(tokens_[row]);
}

void Worth::of_first_tokens(bool exact) {
  if (shape_.keep == 0) return;
  size_t row = 0;
  for (const StateTokens &one : chunk_) {
    State &state = *one.state;
    state.keep.raise(state.view, shape_, false, workspace_.raised[&one - chunk_.data()]);
    View end = state.view;
    end.position += static_cast<int64_t>(one.tokens.size());
    if (end.open() > shape_.segment)
      fail(Status::INTERNAL, "a chunk reads beyond a segment of which something is kept");
    state.closes = end.open() == shape_.segment;
    if (state.closes) state.keep.close(end, shape_, state.closing);
    if (probe_.weight.empty() && !state.keep.knows(state.view.position) && state.has_hidden) {
      State *const states[] = {&state};
      if (!state.has_logits) compute_logits(threads_, model_, states, workspace_, exact);
      workspace_.worth[row] = negative_log_likelihood(state.logits.data(), model_.config().vocabulary, one.tokens[0]);
    }
    row += one.tokens.size();
  }
}

void Worth::of_layer(int layer, const float *x, int64_t stride) {
  if (shape_.keep == 0 || probe_.weight.empty() || layer != probe_.layer) return;
  const auto width = static_cast<int64_t>(probe_.weight.size());
  parallel_for(threads_, static_cast<int64_t>(tokens_.size()), 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *const at = x + row * stride;
      const float square = dot(at, at, width) / static_cast<float>(width) + model_.config().norm_epsilon;
      workspace_.worth[row] = dot(at, probe_.weight.data(), width) / std::sqrt(square);
    }
  });
  if (shape_.keep_standing == 0) return;
  size_t row = 0;
  for (size_t i = 0; i < chunk_.size(); ++i) {
    State &state = *chunk_[i].state;
    const size_t count = chunk_[i].tokens.size();
    state.keep.note(state.view.position, std::span(workspace_.worth).subspan(row, count),
                    std::span(workspace_.ends).subspan(row, count));
    state.keep.raise(state.view, shape_, true, workspace_.raised[i]);
    row += count;
  }
}

bool Worth::wants_rows() const {
  return shape_.keep > 0 && probe_.weight.empty() &&
         std::any_of(chunk_.begin(), chunk_.end(), [](const StateTokens &one) { return one.tokens.size() > 1; });
}

void Worth::of_next_tokens(int64_t first, int64_t rows, const float *logits, int64_t stride) {
  if (!wants_rows()) return;
  parallel_for(threads_, rows, 4, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      if (const auto next = static_cast<size_t>(first + row + 1); next < tokens_.size() && !begins_state(next))
        workspace_.worth[next] =
            negative_log_likelihood(logits + row * stride, model_.config().vocabulary, tokens_[next]);
  });
}

void Worth::note() {
  if (shape_.keep == 0) return;
  size_t row = 0;
  for (const StateTokens &one : chunk_) {
    State &state = *one.state;
    const size_t count = one.tokens.size();
    state.keep.note(state.view.position - static_cast<int64_t>(count), std::span(workspace_.worth).subspan(row, count),
                    std::span(workspace_.ends).subspan(row, count));
    if (state.closes) state.keep.apply(state.closing);
    state.closes = false;
    if (!state.checkpoints.empty() && state.checkpoints.back().view.position == state.view.position)
      state.checkpoints.back().keep = state.keep;
    row += count;
  }
}

bool Worth::begins_state(size_t row) const {
  size_t begin = 0;
  for (const StateTokens &one : chunk_) {
    if (begin == row) return true;
    begin += one.tokens.size();
  }
  return false;
}

}  // namespace infini
