package infini;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongFunction;
import java.util.function.Supplier;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * One stream through a model: its memory, the open segment, the sampler. It may be called from any thread; calls take
 * turns.
 */
public final class Session implements AutoCloseable {
  final Handle handle;
  final ReentrantLock turn = new ReentrantLock();
  private final int vocabulary;
  private final int width;
  private byte[] buffer = new byte[256]; // of nextText
  private final long[] size = {0};

  Session(Handle.Maker maker, int vocabulary, int width) {
    handle = Handle.of("session", Native::infini_session_free, maker).ownedBy(this);
    this.vocabulary = vocabulary;
    this.width = width;
  }

  /**
   * The sum of the negative log-likelihoods of a text's tokens; its perplexity is exp(nll / scored).
   *
   * @param nll in nats
   * @param scored how many tokens it covers: all but a first one with nothing before it
   */
  public record Score(double nll, long scored) {}

  /**
   * Changes options: those that are set replace what was. Setting "seed" restarts the random generator.
   *
   * @param options as in {@link Model#newSession(Options)}
   * @throws InfiniException INVALID_ARGUMENT; nothing has changed
   */
  public void setOptions(Options options) {
    call(session -> Options.with(options, o -> Native.infini_session_set_options(session, o)));
  }

  /**
   * Reads tokens.
   *
   * @param tokens the tokens
   * @throws InfiniException as {@link #feed(int[], Task)}
   */
  public void feed(int[] tokens) {
    feed(tokens, null);
  }

  /**
   * Reads tokens; full segments go to the memory. How a stream is cut into calls does not matter.
   *
   * @param tokens the tokens
   * @param task stage "feed", in tokens; may be null
   * @throws InfiniException INVALID_ARGUMENT (a token is not in the vocabulary; none was read); CANCELLED (the tokens
   *     before were read, as {@link #position} tells, and the session may go on); STATE (an earlier error struck in the
   *     middle of a block; reset the session)
   */
  public void feed(int[] tokens, Task task) {
    call(session -> Task.with(task, t -> Native.infini_session_feed(session, tokens, t)));
  }

  /**
   * Tokenizes a text by itself and reads its tokens.
   *
   * @param text the text
   * @throws InfiniException as {@link #feed(String, Task)}
   */
  public void feed(String text) {
    feed(text, null);
  }

  /**
   * Tokenizes a text by itself and reads its tokens. Only at position 0 does it get what begins a text, such as BOS.
   * Control tokens are parsed from it only with option "special".
   *
   * @param text the text
   * @param task stage "feed", in tokens; may be null
   * @throws InfiniException STATE (the model has no tokenizer); else as {@link #feed(int[], Task)}
   */
  public void feed(String text, Task task) {
    feedBytes(Utf8.encode(text), task);
  }

  /**
   * Reads a UTF-8 text of any length, to its end, in pieces of at most 64 KiB.
   *
   * @param text is read, and not closed
   * @param task stage "feed", in tokens of the piece; may be null
   * @throws IOException of the text; everything before the piece that failed was read
   * @throws InfiniException INVALID_ARGUMENT (the text is not UTF-8, the message gives the offset); else as
   *     {@link #feed(String, Task)}
   */
  public void feed(InputStream text, Task task) throws IOException {
    Pieces.each(text, piece -> feedBytes(piece, task));
  }

  private void feedBytes(byte[] text, Task task) {
    call(session -> Task.with(task, t -> Native.infini_session_feed_text(session, text, t)));
  }

  /**
   * Generates until at least one whole character is ready.
   *
   * @return that text; null when the run has ended (end token, stop string, or option "max_tokens"), and the call after
   *     that begins a new run
   * @throws InfiniException STATE (nothing was fed yet, or the model has no tokenizer); CANCELLED (by {@link #cancel};
   *     another call goes on)
   */
  public String nextText() {
    return call(session -> {
      int status;
      try {
        status = Native.infini_session_next_text(session, 0, buffer, size);
      } catch (InfiniException e) {
        if (e.status() != Status.BUFFER_TOO_SMALL) throw e;
        buffer = new byte[Math.toIntExact(size[0])];
        status = Native.infini_session_next_text(session, 0, buffer, size);
      }
      return status == Status.END
          ? null
          : new String(buffer, 0, (int) size[0], StandardCharsets.UTF_8);
    });
  }

  /**
   * The text of a run of generation, as it comes: each element is generated when it is asked for.
   *
   * @return a stream that ends with the run; its operations throw what {@link #nextText} throws
   */
  public Stream<String> generate() {
    return StreamSupport.stream(Spliterators.spliteratorUnknownSize(new Pull<>(this::nextText),
        Spliterator.ORDERED | Spliterator.NONNULL), false);
  }

  /**
   * Samples a token from the last logits, feeds it and gives it. An end token ends the run and is not fed.
   *
   * @return the token; -1 when the run has ended, and the call after that begins a new run
   * @throws InfiniException STATE (nothing was fed yet); CANCELLED (by {@link #cancel}; another call goes on)
   */
  public int next() {
    int[] token = {0};
    call(session -> Native.infini_session_next(session, 0, token));
    return token[0];
  }

  /**
   * The tokens of a run of generation: each is generated when it is asked for.
   *
   * @return an iterator that ends with the run and throws what {@link #next} throws
   */
  public Iterator<Integer> tokens() {
    return new Pull<>(() -> {
      int token = next();
      return token < 0 ? null : token;
    });
  }

  /** Begins a new run before the last one has ended: "max_tokens" and stop strings count from here. */
  public void startGeneration() {
    call(Native::infini_session_start_generation);
  }

  /**
   * Why the run has ended.
   *
   * @return "none" (it has not), "end_token", "stop_string" or "max_tokens"
   */
  public String stopReason() {
    return text(Native::infini_session_stop_reason);
  }

  /**
   * Cancels the running call of this session, which throws CANCELLED; where none runs, nothing happens. From any thread,
   * without waiting for a turn.
   */
  public void cancel() {
    handle.call(this, Native::infini_session_cancel);
  }

  /**
   * The logits after the last token, before any option of the sampler.
   *
   * @return {@link Model#vocabulary} numbers
   * @throws InfiniException STATE: nothing was fed yet
   */
  public float[] logits() {
    float[] logits = new float[vocabulary];
    call(session -> Native.infini_session_logits(session, logits));
    return logits;
  }

  /**
   * The last layer's normed output for the last token.
   *
   * @return {@link Model#width} numbers
   * @throws InfiniException STATE: nothing was fed yet
   */
  public float[] embedding() {
    float[] embedding = new float[width];
    call(session -> Native.infini_session_embedding(session, embedding));
    return embedding;
  }

  /**
   * Reads tokens, as {@link #feed(int[], Task)} does, and gives the logits after each.
   *
   * @param tokens the tokens
   * @param task as in {@link #feed(int[], Task)}
   * @return rows of {@link Model#vocabulary} numbers, one a token, one after the other
   * @throws InfiniException as {@link #feed(int[], Task)}
   */
  public float[] feedLogits(int[] tokens, Task task) {
    float[] logits = new float[Math.multiplyExact(tokens.length, vocabulary)];
    call(session -> Task.with(task, t -> Native.infini_session_feed_logits(session, tokens, t, logits)));
    return logits;
  }

  /**
   * Reads tokens, as {@link #feed(int[], Task)} does, and gives the negative log-likelihood of each.
   *
   * @param tokens the tokens
   * @param task as in {@link #feed(int[], Task)}
   * @return in nats, one a token; the first is NaN where nothing was fed before
   * @throws InfiniException as {@link #feed(int[], Task)}
   */
  public float[] score(int[] tokens, Task task) {
    float[] nll = new float[tokens.length];
    call(session -> Task.with(task, t -> Native.infini_session_score(session, tokens, t, nll)));
    return nll;
  }

  /**
   * Reads a text, as {@link #feed(String, Task)} does, and says how likely it was.
   *
   * @param text the text
   * @param task as in {@link #feed(String, Task)}
   * @return the sum over its tokens
   * @throws InfiniException as {@link #feed(String, Task)}
   */
  public Score score(String text, Task task) {
    byte[] bytes = Utf8.encode(text);
    double[] nll = {0};
    long[] scored = {0};
    call(session -> Task.with(task, t -> Native.infini_session_score_text(session, bytes, t, nll, scored)));
    return new Score(nll[0], scored[0]);
  }

  /** Folds the open segment into the memory, though it is not full. Costs quality if done often. */
  public void closeSegment() {
    call(Native::infini_session_close_segment);
  }

  /** Empties the session: memory, window, logits, text held back. Options and random generator stay. */
  public void reset() {
    call(Native::infini_session_reset);
  }

  /**
   * A second session that goes on exactly as this one would, at the cost of a copy of its state.
   *
   * @return the session, which the caller closes
   */
  public Session fork() {
    return call(session -> new Session(made -> Native.infini_session_fork(session, made), vocabulary, width));
  }

  /**
   * Tokens read since the stream began, generated ones included.
   *
   * @return the number of tokens
   */
  public long position() {
    return number(Native::infini_session_position);
  }

  /**
   * Tokens in the open segment.
   *
   * @return the number of tokens
   */
  public long segmentPosition() {
    return number(Native::infini_session_segment_position);
  }

  /**
   * Tokens that were folded into the memory.
   *
   * @return the number of tokens
   */
  public long memoryTokens() {
    return number(Native::infini_session_memory_tokens);
  }

  /**
   * All numbers of the session.
   *
   * @return a JSON object: "position", "state_bytes", "stop_reason", ...
   */
  public String infoJson() {
    return text(Native::infini_session_info_json);
  }

  /**
   * Saves the whole session to a file, which is replaced whole or not at all.
   *
   * @param path the file
   * @throws InfiniException as {@link #save(Path, boolean, String, String, Task)}
   */
  public void save(Path path) {
    save(path, false, "", "", null);
  }

  /**
   * Saves the session to a file, which is replaced whole or not at all.
   *
   * @param path the file
   * @param memoryOnly false: everything that it needs to go on exactly as if it had never stopped; true: the memory alone,
   *     as it would be after closing the open segment
   * @param name kept in the snapshot for the caller
   * @param note the same
   * @param task stage "save", in bytes; may be null
   * @throws InfiniException IO, NO_SPACE, CANCELLED (what was there before is still there); STATE
   */
  public void save(Path path, boolean memoryOnly, String name, String note, Task task) {
    call(session -> Task.with(task, t ->
        Native.infini_session_save(session, path.toString(), memoryOnly ? 1 : 0, name, note, t)));
  }

  /**
   * Takes a snapshot of the whole session.
   *
   * @return the snapshot
   * @throws InfiniException as {@link #snapshot(boolean, String, String)}
   */
  public Snapshot snapshot() {
    return snapshot(false, "", "");
  }

  /**
   * Takes a snapshot.
   *
   * @param memoryOnly as in {@link #save(Path, boolean, String, String, Task)}
   * @param name kept in the snapshot for the caller
   * @param note the same
   * @return the snapshot
   * @throws InfiniException STATE: an earlier error struck in the middle of a block
   */
  public Snapshot snapshot(boolean memoryOnly, String name, String note) {
    return Snapshot.owning(call(session -> Utf8.bytes((buffer, size) ->
        Native.infini_session_save_buffer(session, memoryOnly ? 1 : 0, name, note, buffer, size))));
  }

  /**
   * Puts the session where the snapshot was taken: all or nothing, so that after a failure the session is as it was.
   * Options of generation that this session was not given come from the snapshot.
   *
   * @param snapshot the snapshot
   * @throws InfiniException MODEL_MISMATCH, VERSION, CHECKSUM, FORMAT, TRUNCATED
   */
  public void restore(Snapshot snapshot) {
    call(snapshot::restoreInto);
  }

  /**
   * Does what {@link #restore(Snapshot)} does with the snapshot in a file.
   *
   * @param path the file
   * @param task can cancel before it begins; may be null
   * @throws InfiniException IO, CANCELLED; else as {@link #restore(Snapshot)}
   */
  public void restore(Path path, Task task) {
    call(session -> Task.with(task, t -> Native.infini_session_restore(session, path.toString(), t)));
  }

  /**
   * Goes back to an earlier position of the stream, between {@link #rewindLimit} and the present one. Option "checkpoints"
   * says how many segment boundaries are kept for that. A new run of generation begins.
   *
   * @param position in tokens
   * @throws InfiniException STATE: the position is out of reach; nothing has changed
   */
  public void rewind(long position) {
    call(session -> Native.infini_session_rewind(session, position));
  }

  /**
   * The earliest position that {@link #rewind} reaches.
   *
   * @return in tokens
   */
  public long rewindLimit() {
    return number(Native::infini_session_rewind_limit);
  }

  /** Cancels the call that runs, if any, and frees the session when it has returned. Closing again does nothing. */
  @Override public void close() {
    handle.close(Native::infini_session_cancel);
  }

  private interface Writer {
    int write(long session, byte[] buffer, long[] size);
  }

  private interface Getter {
    int get(long session, long[] value);
  }

  private String text(Writer writer) {
    return call(session -> Utf8.text((buffer, size) -> writer.write(session, buffer, size)));
  }

  private long number(Getter getter) {
    long[] value = {0};
    call(session -> getter.get(session, value));
    return value[0];
  }

  private <T> T call(LongFunction<T> body) {
    return handle.call(this, turn, body);
  }

  /** Runs body when its turn has come. */
  <T> T inTurn(Supplier<T> body) {
    turn.lock();
    try {
      return body.get();
    } finally {
      turn.unlock();
    }
  }
}
