// Going back in the stream.
#include <algorithm>

#include "stream/session_impl.h"

namespace infini {

std::vector<int64_t> Session::boundaries() const {
  std::vector<int64_t> positions;
  for (const Checkpoint &checkpoint : impl_->state.checkpoints) positions.push_back(checkpoint.view.position);
  return positions;
}

int64_t Session::rewind_limit() const {
  const State &state = impl_->state;
  if (!state.checkpoints.empty()) return state.checkpoints.front().view.position;
  // The output of the token before a boundary is kept only with a checkpoint.
  return std::min(std::max(state.view.segment_begin, impl_->history.begin) + 1, position());
}

void Session::rewind(int64_t position) {
  impl_->check_whole();
  State &state = impl_->state;
  if (position < rewind_limit() || position > this->position())
    fail(
        Status::STATE, "cannot rewind to ", position, ": possible are positions ", rewind_limit(), " to ",
        this->position(),
        impl_->state.most_checkpoints == 0 ? "; option 'checkpoints' keeps segment boundaries to go back further" : "");
  if (position == this->position()) return;

  const ThreadScope threads(model_->threads(), impl_->settings.threads);
  History &history = impl_->history;
  const auto checkpoint = std::find_if(state.checkpoints.rbegin(), state.checkpoints.rend(),
                                       [&](const Checkpoint &c) { return c.view.position <= position; });
  if (position > state.view.segment_begin && state.view.segment_begin >= history.begin) {
    state.view.position = position - 1;  // the last token is read again, for its output
    state.keep.drop_after(position);
  } else {
    state.rewind(*checkpoint);
  }
  const int64_t from = state.view.position - history.begin, count = position - state.view.position;
  history.drop_after(position);
  const auto again = std::span(history.tokens).subspan(static_cast<size_t>(from), static_cast<size_t>(count));
  {
    const Unfinished change(state);  // until it stands where its history ends
    for (size_t done = 0; done < again.size();) {
      const auto longest = static_cast<size_t>(std::min(impl_->settings.chunk, impl_->engine.longest_chunk(state)));
      const StateTokens one{&state, again.subspan(done, std::min(again.size() - done, longest))};
      impl_->engine.forward(threads, {&one, 1}, impl_->settings.exact);
      done += one.tokens.size();
    }
  }
  if (impl_->settings.rewind_sampler) {
    const auto left = static_cast<size_t>(position - history.begin);
    impl_->generation.random.set_state(left > 0 ? history.randoms[left - 1] : history.random_before);
    impl_->generation.recent = history.recent_before;
    for (size_t i = 0; i < left; ++i) impl_->generation.recent.push(history.tokens[i]);
  }
  Generation &generation = impl_->generation;
  generation.text_started = history.begin > 0;
  for (const int32_t token : history.tokens)
    generation.text_started = starts_text(*model_, token, generation.text_started);
  if (position <= generation.chat_begin) generation.chat_begin = -1;
  moved();
  start_generation();
}

}  // namespace infini
