// A session: one stream of tokens through a model, in fixed memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/task.h"
#include "model/engine.h"
#include "stream/sampler.h"
#include "text/chat.h"

namespace infini {

class SnapshotImage;

// One thread at a time; cancel() and position() from any.
class Session {
 public:
  Session(std::shared_ptr<const Model> model, const Options &options);
  ~Session();

  const Model &model() const { return *model_; }

  // --- reading
  // Each reads all its tokens, or throws CANCELLED when `task` or cancel() cancelled the call: those of the chunks
  // before are read then, which may be all. An id outside the vocabulary is an INVALID_ARGUMENT error before any.
  void feed(std::span<const int32_t> tokens, Task *task = nullptr);
  // Tokenizes one text by itself (BOS and space prefix only at position 0) and feeds it.
  void feed_text(std::string_view text, Task *task = nullptr);
  // What would be read, for a caller who reads the tokens himself, as in pieces, once begin() counted what has none.
  struct Reading {
    std::vector<int32_t> tokens;
    int64_t unknown_bytes = 0;
  };
  // Of a text as feed_text reads it, by the options `special` and `unknown_text`.
  Reading encode(std::string_view text) const;
  void begin(const Reading &reading);
  // Feeds messages as the model's template writes them, up to the opening of the assistant's turn, and starts a new run
  // of generation, which writes what stands there. The messages' words have no control tokens. The turn that was open
  // since the last call is closed; what begins a conversation is given at its beginning: after reset(), a memory alone,
  // or a rewind to before it. After CANCELLED the turn that was being read is the open one.
  void chat(const std::vector<ChatMessage> &messages, Task *task = nullptr);
  // What chat() would read; then begin_turn(), all of the tokens, and start_generation().
  Reading chat_turn(const std::vector<ChatMessage> &messages) const;
  void begin_turn(const Reading &turn);
  int64_t chat_begin() const;     // position at which the conversation began; -1: there is none
  int64_t unknown_bytes() const;  // of characters without tokens, skipped or replaced since the stream began
  // Feeds and gives the logits after each token: logits is [tokens, vocabulary].
  void feed_logits(std::span<const int32_t> tokens, float *logits, Task *task = nullptr);
  // Feeds and gives, for each token, -ln p(token | everything before), in nats. nll is [tokens].
  // The first is NaN where the session has no last logits (nothing came before).
  // FORMAT where the model gives logits that are not numbers: the tokens were read.
  void score(std::span<const int32_t> tokens, float *nll, Task *task = nullptr);
  // The same of a text that is tokenized by itself: the sum, and how many tokens it covers, also where the call is
  // cancelled. Each may be null.
  void score_text(std::string_view text, double *nll, int64_t *scored, Task *task = nullptr);
  // Folds the open segment into the memory; nothing happens if it is empty.
  void close_segment();
  // The last `tokens` tokens are worth keeping before all else, where the model keeps sentences; those that were marked
  // later come first. STATE where it keeps none, INVALID_ARGUMENT for more than the window has. A rewind forgets it.
  void keep(int64_t tokens);
  // Back to an empty session: memory, window, logits and text; options and random generator stay.
  void reset();
  // A session of its own that goes on exactly as this one.
  std::unique_ptr<Session> fork() const;

  // --- going back
  // To a position between rewind_limit() and position(): inside the open segment by cutting it, before it by restoring
  // the last kept boundary before the position and feeding the tokens after it again. The random generator and the
  // penalties go back only with option `rewind_sampler`. STATE, saying what is possible, for any other position.
  void rewind(int64_t position);
  // The oldest position to which the session can be rewound: of the oldest of the last `checkpoints` segment boundaries
  // (the beginning of the stream is one), or, where none is kept, of the second token of the open segment.
  int64_t rewind_limit() const;
  std::vector<int64_t> boundaries() const;  // positions of the kept segment boundaries, oldest first

  // --- snapshots (stream/snapshot.cc says what is in one)
  enum class SnapshotKind { SESSION, MEMORY };
  struct Labels {
    std::string name, note;  // the caller's, kept and shown
  };
  // A file that replaces `path` as a whole, or bytes. MEMORY: the memory as it would be after closing the open segment.
  void save(const std::string &path, SnapshotKind kind, const Labels &labels, Task *task = nullptr) const;
  // Into memory: to_hold(size) gives it; NULL: nowhere, only the size is wanted, and nothing is made.
  void save(SnapshotKind kind, const Labels &labels, const std::function<std::byte *(size_t)> &to_hold,
            Task *task = nullptr) const;
  std::vector<std::byte> save(SnapshotKind kind, const Labels &labels) const;
  // All or nothing: whatever is wrong with the snapshot, the session stays as it was. Options of generation that this
  // session was not given come from the snapshot, the random generator's state too unless another seed was given.
  void restore(const std::string &path, Task *task = nullptr);
  void restore(std::span<const std::byte> bytes, const std::string &name = "snapshot", Task *task = nullptr);

  // Adds what a snapshot holds: its memory, as it is when its open segment is closed, `weight` times (below 0: taken
  // away), and what it keeps: model/merge.h. This session's open segment is closed first; its window, position and last
  // logits stay, and no rewind goes back to before. All or nothing; refused as in restore().
  void merge(const std::string &path, double weight, Task *task = nullptr);
  void merge(std::span<const std::byte> bytes, double weight, const std::string &name = "snapshot",
             Task *task = nullptr);

  // --- what it holds
  // After the last token, [vocabulary], computed where they are asked for; STATE error where there are none.
  std::span<const float> logits();
  // The last layer's normed output for the last token, [width]; STATE error likewise.
  std::span<const float> embedding() const;
  int64_t position() const { return position_.load(std::memory_order_relaxed); }  // tokens fed since the stream began
  int64_t segment_position() const;                                               // tokens in the open segment
  int64_t memory_tokens() const;                                                  // tokens folded into the memory
  int64_t state_bytes() const;                                                    // what a copy of the session costs
  int64_t workspace_bytes() const;                                                // buffers of the last chunk, reused
  int64_t total_bytes() const;  // all that it holds: the state with its whole buffers, workspace, sampler
  void reserve();               // takes the workspace of a whole chunk now
  // All that a session without options of its own comes to hold.
  static int64_t usual_bytes(const std::shared_ptr<const Model> &model);
  const State &state() const;
  const Options &options() const;  // that were given, or came from a snapshot

  // --- generation
  // Sampling, stop strings, threads, chunk: what is set in `options` replaces what was, the rest stays.
  void set_options(const Options &options);
  // Starts a new run: counts tokens and looks for stop strings from here on. next() starts one by itself
  // after an end.
  void start_generation();
  // Samples from the last logits, feeds that token and returns it; nullopt: the run has ended (why is in
  // stop_reason()), and an end token was not fed. `fed`, where it is given, receives the token, or -1, also when the
  // call was cancelled while it was fed.
  std::optional<int32_t> next(Task *task = nullptr, int32_t *fed = nullptr);
  // The text of one or more tokens, whole characters only, without what may begin a stop string, which stays until it
  // is dropped; nullptr: the run has ended and everything was given. Where it is cancelled, text that was ready comes
  // with the next call.
  const std::string *ready_text(Task *task = nullptr);
  void drop_text();
  // Passes a run's text on as it comes, until the run has ended or give(text) returns false: CANCELLED.
  void generate(const std::function<bool(const std::string &)> &give, Task *task = nullptr);
  const char *stop_reason() const;  // "none", "end_token", "stop_string" or "max_tokens"

  // The call that runs (of those above that read, generate or save) ends with CANCELLED; without one nothing happens.
  void cancel() { cancel_.cancel(); }

 private:
  struct Impl;
  friend class Batch;
  Session(const Session &other);
  Reading encode(std::string_view text, Tokenizer::Encode how) const;
  void check_tokens(std::span<const int32_t> tokens) const;
  void ingest(std::span<const int32_t> tokens, Task *task, const LogitsSink &sink);
  void begin_call() const { cancel_.take_cancel(); }  // a cancel that came before was not meant for this call
  bool cancelled(Task *task) const;
  void begin_generation(Task *task);
  void check_generation(Task *task) const;
  std::optional<int32_t> step(Task *task);
  const std::string *advance(Task *task);
  void moved();
  std::span<const float> logits(const Threads &threads);
  std::optional<int32_t> choose(const Threads &threads);
  void accept(int32_t token);
  std::vector<std::byte> write(const SnapshotImage &image, Task *task,
                               const std::function<void(const void *, size_t)> &put) const;
  void with_image(SnapshotKind kind, const Labels &labels, const std::function<void(const SnapshotImage &)> &f) const;

  std::shared_ptr<const Model> model_;
  std::unique_ptr<Impl> impl_;
  mutable Task cancel_;
  std::atomic<int64_t> position_{0};  // the state's, as of the last whole chunk
};

// What a snapshot holds, as JSON, without a model; `verify`: every section's checksum too, piece by piece.
std::string inspect_snapshot(const std::string &path, bool verify, Task *task = nullptr);
std::string inspect_snapshot(std::span<const std::byte> bytes, const std::string &name, bool verify,
                             Task *task = nullptr);

}  // namespace infini
