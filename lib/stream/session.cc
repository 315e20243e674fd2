#include "stream/session.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "stream/session_impl.h"

namespace infini {

Settings::Settings(const Options &options)
    : SessionOptions(options.as<SessionOptions>()), GenerationOptions(options.as<GenerationOptions>()),
      TextOptions(options.as<TextOptions>()), unknown(unknown_text_of(unknown_text)) {
  threads = threads_of(*this);
}

Session::Impl::Impl(const Model &model, const Options &all)
    : given(all), options(all), settings(all), engine(model), state(engine.make_state(settings.checkpoints)),
      sampler(settings, model.config().vocabulary) {
  seed(settings.seed);
  apply(model, all);
}

Session::Impl::Impl(const Model &model, const Impl &other)
    : given(other.given), options(other.options), settings(other.settings), engine(model), state(other.state.copy()),
      sampler(other.sampler), generation(other.generation), history(other.history) {
  const auto window = static_cast<size_t>(settings.penalty_window);
  // A copy has no room of its own: then a token that is fed could fail to be noted.
  generation.recent.set_window(window);
  history.recent_before.set_window(window);
}

void Session::Impl::apply(const Model &model, const Options &all) {
  const Settings asked(all);
  sampler = Sampler(asked, model.config().vocabulary);  // throws before anything changes
  options = all;
  settings = asked;
  state.most_checkpoints = asked.checkpoints;
  while (state.checkpoints.size() > static_cast<size_t>(state.most_checkpoints)) state.checkpoints.pop_front();
  const auto window = static_cast<size_t>(asked.penalty_window);
  generation.recent.set_window(window);
  history.recent_before.set_window(window);
  generation.output.set_stops(parse_stops(asked.stop));
  forget();
}

void Session::Impl::seed(int64_t number) {
  generation.random = Random(static_cast<uint64_t>(number));
  (history.randoms.empty() ? history.random_before : history.randoms.back()) = generation.random.state();
}

void Session::Impl::check_whole() const {
  if (state.broken())
    fail(Status::STATE, "an earlier error struck in the middle of a chunk; reset the session or restore a snapshot");
}

void Session::Impl::remember(const Model &model, std::span<const int32_t> tokens) {
  {
    const Unfinished change(state);  // until its history has the tokens
    for (const int32_t token : tokens) {
      generation.recent.push(token);
      history.tokens.push_back(token);
      history.randoms.push_back(generation.random.state());
      generation.text_before = generation.text_started;
      generation.text_started = starts_text(model, token, generation.text_started);
    }
  }
  forget();
}

void Session::Impl::forget() {
  if (state.broken()) return;  // its checkpoints may lie behind the last token of the history
  history.drop_before(state.checkpoints.empty() ? state.view.segment_begin : state.checkpoints.front().view.position);
}

void History::drop_before(int64_t position) {
  if (position <= begin) return;
  const auto count = position - begin;
  for (int64_t i = 0; i < count; ++i) recent_before.push(tokens[i]);
  const auto last_random = randoms[count - 1];
  tokens.erase(tokens.begin(), tokens.begin() + count);
  randoms.erase(randoms.begin(), randoms.begin() + count);
  random_before = last_random;
  begin = position;
}

void History::drop_after(int64_t position) {
  tokens.resize(static_cast<size_t>(position - begin));
  randoms.resize(static_cast<size_t>(position - begin));
}

Session::Session(std::shared_ptr<const Model> model, const Options &options)
    : model_(std::move(model)), impl_(std::make_unique<Impl>(*model_, options)) {}

Session::Session(const Session &other) : model_(other.model_), impl_(std::make_unique<Impl>(*model_, *other.impl_)) {
  moved();
}

Session::~Session() = default;

std::unique_ptr<Session> Session::fork() const { return std::unique_ptr<Session>(new Session(*this)); }

void Session::check_tokens(std::span<const int32_t> tokens) const {
  impl_->check_whole();
  const int vocabulary = model_->config().vocabulary;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= vocabulary)
      fail(Status::INVALID_ARGUMENT, "token ", i, " is ", tokens[i], ", but the vocabulary has ", vocabulary,
           " tokens");
}

// After each change of the stream.
void Session::moved() { position_.store(impl_->state.view.position, std::memory_order_relaxed); }

// The one way into the model: every reader feeds through here, chunk by chunk. `sink` gets the logits of
// tokens [first, first + rows) of the whole call.
void Session::ingest(std::span<const int32_t> tokens, Task *task, const LogitsSink &sink) {
  begin_call();
  check_tokens(tokens);
  if (task) task->begin("feed", static_cast<int64_t>(tokens.size()));
  const ThreadScope threads(model_->threads(), impl_->settings.threads);
  size_t done = 0;
  const auto check_cancel = [&] {
    if (cancelled(task))
      fail(Status::CANCELLED, "cancelled after ", done, " of ", tokens.size(),
           " tokens; the session may go on from there");
  };
  while (done < tokens.size()) {
    check_cancel();
    const auto longest =
        static_cast<size_t>(std::min(impl_->settings.chunk, impl_->engine.longest_chunk(impl_->state)));
    const auto chunk = tokens.subspan(done, std::min(longest, tokens.size() - done));
    const LogitsSink shifted =
        !sink ? LogitsSink()
              : [&](const Threads &here, int64_t first, int64_t rows, const float *logits, int64_t stride) {
      sink(here, static_cast<int64_t>(done) + first, rows, logits, stride);
        };
    const StateTokens one{&impl_->state, chunk};
    impl_->engine.forward(threads, {&one, 1}, impl_->settings.exact, shifted);
    impl_->remember(*model_, chunk);
    moved();
    done += chunk.size();
    if (task) task->advance_to(static_cast<int64_t>(done));
  }
  check_cancel();  // whoever cancels in the last chunk of one of many calls means to stop them all
}

bool Session::cancelled(Task *task) const {
  const bool by_task = task && task->take_cancel(), by_session = cancel_.take_cancel();
  return by_task || by_session;
}

void Session::feed(std::span<const int32_t> tokens, Task *task) { ingest(tokens, task, {}); }

void Session::feed_logits(std::span<const int32_t> tokens, float *logits, Task *task) {
  const int64_t vocabulary = model_->config().vocabulary;
  ingest(tokens, task, [&](const Threads &, int64_t first, int64_t rows, const float *chunk, int64_t stride) {
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(chunk + row * stride, vocabulary, logits + (first + row) * vocabulary);
  });
}

void Session::score(std::span<const int32_t> tokens, float *nll, Task *task) {
  if (tokens.empty()) return;
  const int64_t vocabulary = model_->config().vocabulary, count = static_cast<int64_t>(tokens.size());
  const auto loss = [&](const float *before, int32_t token) {
    return negative_log_likelihood(before, vocabulary, token);
  };
  check_tokens(tokens);
  const bool follows = impl_->state.has_hidden;  // else nothing is before the first
  nll[0] = follows ? loss(logits().data(), tokens[0]) : std::numeric_limits<float>::quiet_NaN();
  ingest(tokens, task, [&](const Threads &threads, int64_t first, int64_t rows, const float *chunk, int64_t stride) {
    parallel_for(threads, rows, 4, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        if (const int64_t next = first + row + 1; next < count) nll[next] = loss(chunk + row * stride, tokens[next]);
    });
  });
  for (size_t i = follows ? 0 : 1; i < tokens.size(); ++i)
    if (std::isnan(nll[i]))
      fail(Status::FORMAT, "the model's logits before token ", i,
           " of this call are not numbers: its file holds some"
           " that are not, or they overflow in compute type '",
           name_of(impl_->engine.number_type()), "'; the tokens were read");
}

void Session::close_segment() {
  impl_->check_whole();
  const ThreadScope threads(model_->threads(), impl_->settings.threads);
  impl_->engine.close_segment(threads, impl_->state);
  impl_->remember(*model_, {});
}

void Session::reset() {
  impl_->state.clear();
  impl_->generation.recent.clear();
  impl_->generation.text_started = false;
  impl_->generation.chat_begin = -1;
  impl_->generation.unknown_bytes = 0;
  impl_->history.recent_before.clear();
  impl_->history.tokens.clear();
  impl_->history.randoms.clear();
  impl_->history.begin = 0;
  impl_->history.random_before = impl_->generation.random.state();
  moved();
  start_generation();
}

std::span<const float> Session::logits() {
  if (impl_->state.has_logits) return logits(Threads());
  const ThreadScope threads(model_->threads(), impl_->settings.threads);
  return logits(threads);
}

std::span<const float> Session::logits(const Threads &threads) {
  impl_->check_whole();
  State &state = impl_->state;
  if (!state.has_hidden)
    fail(Status::STATE,
         "there are no logits yet: feed at least one token after creating, resetting or restoring a memory alone");
  if (!state.has_logits) {
    State *const states[] = {&state};
    impl_->engine.compute_logits(threads, states, impl_->settings.exact);
  }
  return {state.logits.data(), static_cast<size_t>(model_->config().vocabulary)};
}

std::span<const float> Session::embedding() const {
  impl_->check_whole();
  if (!impl_->state.has_hidden) fail(Status::STATE, "there is no embedding yet: feed at least one token");
  return impl_->state.hidden;
}

int64_t Session::segment_position() const { return impl_->state.view.open(); }
int64_t Session::memory_tokens() const { return impl_->state.view.memory_tokens; }
int64_t Session::state_bytes() const { return impl_->state.bytes() + impl_->history.bytes(); }
int64_t Session::workspace_bytes() const { return impl_->engine.bytes(); }
const State &Session::state() const { return impl_->state; }
const Options &Session::options() const { return impl_->options; }
void Session::reserve() {
  const ThreadScope threads(model_->threads(), impl_->settings.threads);
  impl_->engine.reserve(impl_->settings.chunk, threads.count());
}
int64_t Session::usual_bytes(const std::shared_ptr<const Model> &model) {
  std::atomic<int64_t> &counted = model->session_bytes();
  if (counted == 0) {
    Session session(model, Options());
    session.reserve();
    counted = session.total_bytes();
  }
  return counted;
}

int64_t Session::total_bytes() const {
  return impl_->state.held_bytes() + impl_->history.bytes() + workspace_bytes() + impl_->sampler.bytes();
}

void Session::set_options(const Options &options) {
  Options merged = impl_->options;
  merged.merge(options);
  impl_->apply(*model_, merged);
  impl_->given.merge(options);
  if (options.is_set("seed")) impl_->seed(impl_->settings.seed);
}

void Session::start_generation() {
  impl_->generation.generated = 0;
  impl_->generation.reason = StopReason::NONE;
  impl_->generation.end_reported = false;
  impl_->generation.output.start();
}

// The next token of the run, which is not fed yet; nullopt: the run has ended.
std::optional<int32_t> Session::choose(const Threads &threads) {
  Generation &generation = impl_->generation;
  const Settings &settings = impl_->settings;
  if (generation.end_reported) start_generation();
  if (generation.reason == StopReason::NONE && settings.max_tokens >= 0 && generation.generated >= settings.max_tokens)
    generation.reason = StopReason::MAX_TOKENS;
  if (generation.reason != StopReason::NONE) return std::nullopt;
  const int32_t token = impl_->sampler.sample(logits(threads), generation.recent, generation.random);
  if (has_text(*model_, token) && !settings.ignore_end && model_->tokenizer().is_end(token)) {
    generation.reason = StopReason::END_TOKEN;
    return std::nullopt;
  }
  return token;
}

// Adds the text of a token that was chosen and fed.
void Session::accept(int32_t token) {
  Generation &generation = impl_->generation;
  const std::string piece =
      has_text(*model_, token) ? model_->tokenizer().piece(token, false, !generation.text_before) : "";
  ++generation.generated;
  if (generation.output.push(piece)) generation.reason = StopReason::STOP_STRING;
}

void Session::begin_generation(Task *task) {
  begin_call();
  const Generation &generation = impl_->generation;
  if (task)
    task->begin("generate", std::max<int64_t>(0, impl_->settings.max_tokens),
                generation.end_reported ? 0 : generation.generated);
}

void Session::check_generation(Task *task) const {
  if (cancelled(task))
    fail(Status::CANCELLED, "generation was cancelled after ", impl_->generation.generated, " tokens; it may go on");
}

// One token of the run, fed and its text added to the output; nullopt: the run has ended.
std::optional<int32_t> Session::step(Task *task) {
  check_generation(task);
  const ThreadScope threads(model_->threads(), impl_->settings.threads);
  const std::optional<int32_t> token = choose(threads);
  if (!token) return std::nullopt;
  const StateTokens one{&impl_->state, {&*token, 1}};
  impl_->engine.forward(threads, {&one, 1}, impl_->settings.exact);
  impl_->remember(*model_, {&*token, 1});
  moved();
  accept(*token);
  if (task) task->advance_to(impl_->generation.generated);
  return token;
}

std::optional<int32_t> Session::next(Task *task, int32_t *fed) {
  if (fed) *fed = -1;
  begin_generation(task);
  const std::optional<int32_t> token = step(task);
  if (fed) *fed = token.value_or(-1);
  impl_->generation.output.take();  // the caller reads tokens
  check_generation(task);
  impl_->generation.end_reported = !token;
  return token;
}

// Generates until text is ready, which stays until it is dropped; nullptr: the run has ended.
const std::string *Session::advance(Task *task) {
  Generation &generation = impl_->generation;
  while (generation.output.ready().empty()) {
    const bool going = step(task).has_value();
    if (!going && generation.reason != StopReason::STOP_STRING) generation.output.finish();
    if (!going && generation.output.ready().empty()) break;
  }
  check_generation(task);
  generation.end_reported = generation.output.ready().empty();
  return generation.end_reported ? nullptr : &generation.output.ready();
}

const std::string *Session::ready_text(Task *task) {
  model_->tokenizer();  // an error where there is none
  begin_generation(task);
  return advance(task);
}

void Session::generate(const std::function<bool(const std::string &)> &give, Task *task) {
  model_->tokenizer();
  begin_generation(task);
  while (advance(task)) {
    const std::string text = impl_->generation.output.take();
    if (!give(text)) fail(Status::CANCELLED, "the callback stopped generation; another call goes on");
  }
}

void Session::drop_text() { impl_->generation.output.take(); }

const char *Session::stop_reason() const { return kStopReasons[static_cast<int>(impl_->generation.reason)]; }

}  // namespace infini
