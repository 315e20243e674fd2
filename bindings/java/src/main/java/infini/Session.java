package infini;

import java.io.IOException;
import java.io.InputStream;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
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
  private static final int[] NO_TOKENS = {};

  final Handle handle;
  final ReentrantLock turn = new ReentrantLock();
  private final Task own; // of calls that are given none
  private final LongCalls calls = new LongCalls();
  private final int vocabulary;
  private final int width;
  private byte[] buffer = new byte[256]; // of nextText
  private final long[] size = {0};
  private volatile boolean reading; // a stream, by one native call a piece
  private volatile boolean stopped; // that reading was cancelled, perhaps between two of them

  Session(Handle.Maker maker, int vocabulary, int width) {
    Task task = own = new Task(); // what frees the session must not hold the session itself
    handle = Handle.of("session", session -> {
      Native.infini_session_free(session);
      task.close();
    }, maker).ownedBy(this);
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
   *     middle of a chunk; reset the session)
   */
  public void feed(int[] tokens, Task task) {
    run(task, (session, t) -> Native.infini_session_feed(session, tokens, t));
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
   * The tokens that {@link #feed(String)} would read here, for who counts them first or reads them in pieces, between which others have
   * their turn: all of them by {@link #feed(int[], Task)}. What has no token and is left out or replaced counts as read.
   *
   * @param text the text
   * @return the tokens
   * @throws InfiniException as {@link #feed(String)}; nothing has changed
   */
  public int[] textTokens(String text) {
    byte[] bytes = Utf8.encode(text);
    return call(session -> Model.tokensOf(session, bytes.length, (s, buffer, size) ->
        Native.infini_session_text_tokens(s, bytes, buffer, size)));
  }

  private void feedBytes(byte[] text, Task task) {
    run(task, (session, t) -> Native.infini_session_feed_text(session, text, t));
  }

  /**
   * Reads a UTF-8 text of any length, to its end, in pieces of at most 64 KiB. A cancel is heard between two chunks of
   * tokens, and when a read of the text returns.
   *
   * @param text is read, and not closed
   * @param task stage "feed", in bytes of the whole text, of a total that is not known; may be null
   * @throws IOException of the text; everything before the piece that failed was read
   * @throws InfiniException INVALID_ARGUMENT (the text is not UTF-8, the message gives the offset); else as
   *     {@link #feed(String, Task)}
   */
  public void feed(InputStream text, Task task) throws IOException {
    read(text, 0, task);
  }

  /**
   * Reads a text of any length, as {@link #feed(InputStream, Task)} does, from a reader, which knows its encoding.
   *
   * @param text is read, and not closed
   * @param task stage "feed", in bytes of the whole text as UTF-8, of a total that is not known; may be null
   * @throws IOException of the text; everything before the piece that failed was read
   * @throws InfiniException as {@link #feed(String, Task)}
   */
  public void feed(Reader text, Task task) throws IOException {
    read(Utf8.stream(text), 0, task);
  }

  /**
   * Reads a file, as {@link #feed(InputStream, Task)} does.
   *
   * @param text a UTF-8 text
   * @param task stage "feed", in bytes of the whole file; may be null
   * @throws IOException of the file; everything before the piece that failed was read
   * @throws InfiniException as {@link #feed(InputStream, Task)}
   */
  public void feed(Path text, Task task) throws IOException {
    try (InputStream in = Files.newInputStream(text)) {
      read(in, Files.isRegularFile(text) ? Files.size(text) : 0, task);
    }
  }

  private void read(InputStream text, long total, Task task) throws IOException {
    Task by = task == null ? own : task;
    Reading stream = new Reading(total);
    try {
      call(task, session -> by.call(t -> {
        by.watch(stream);
        stopped = false;
        reading = true;
        try {
          handle.requireOpen(); // who closes from here on stops the reading
          stream.read(text, new Reading.Reader() {
            @Override public void read(byte[] piece) {
              Native.infini_session_feed_text(session, piece, t);
            }

            @Override public void hear() {
              CancelledException.ifInterrupted();
              if (stopped) throw new CancelledException("reading was cancelled");
              Native.infini_session_feed(session, NO_TOKENS, t);
            }
          });
        } catch (IOException e) {
          throw new UncheckedIOException(e); // out of the lambdas only
        } catch (CancelledException e) { // which tells of a piece
          throw new CancelledException("cancelled at position " + position(session) + "; the session may go on from there");
        } finally {
          reading = false;
        }
        return null;
      }));
    } catch (UncheckedIOException e) {
      throw e.getCause();
    }
  }

  /**
   * Reads messages of a conversation.
   *
   * @param messages as in {@link #chat(List, Task)}
   * @throws InfiniException as {@link #chat(List, Task)}
   */
  public void chat(ChatMessage... messages) {
    chat(List.of(messages), null);
  }

  /**
   * Reads messages of a conversation.
   *
   * @param messages as in {@link #chat(List, Task)}
   * @throws InfiniException as {@link #chat(List, Task)}
   */
  public void chat(List<ChatMessage> messages) {
    chat(messages, null);
  }

  /**
   * Reads messages of a conversation as the model's template writes them, up to where the assistant speaks: what is generated
   * next is the answer, in a run of its own. Each message is given once, for the session, and a snapshot of it, holds the
   * conversation. Where the last message is the assistant's, generation goes on with it. Contents are a person's words:
   * control tokens in them are read as the letters that they are written with.
   *
   * @param messages those that are new
   * @param task stage "feed", in tokens; may be null
   * @throws InfiniException INVALID_ARGUMENT (there is none, or a role is not known); UNSUPPORTED (no chat template, or one
   *     that cannot be run); else as {@link #feed(String, Task)}
   */
  public void chat(List<ChatMessage> messages, Task task) {
    chatJson(ChatMessage.json(messages), task);
  }

  /**
   * Reads messages, as {@link #chat(List, Task)} does, from JSON.
   *
   * @param messagesJson a list of {"role": ..., "content": ...}, where "content" is a text, null or a list of
   *     {"type": "text", "text": ...}; other keys are left alone
   * @param task as in {@link #chat(List, Task)}
   * @throws InfiniException as {@link #chat(List, Task)}
   */
  public void chatJson(String messagesJson, Task task) {
    run(task, (session, t) -> Native.infini_session_chat(session, messagesJson, t));
  }

  /**
   * The tokens that {@link #chatJson} would read, for who reads them in pieces, between which others have their turn: all of them by
   * {@link #feed(int[], Task)}, and then {@link #startGeneration}. The turn begins here; where nothing of it is read, the next
   * one does.
   *
   * @param messagesJson as in {@link #chatJson}
   * @return the tokens
   * @throws InfiniException as {@link #chatJson}, but for CANCELLED; nothing has changed
   */
  public int[] chatTokensJson(String messagesJson) {
    return call(session -> Model.tokensOf(session, messagesJson.length(), (s, buffer, size) ->
        Native.infini_session_chat_tokens(s, messagesJson, buffer, size)));
  }

  /**
   * Generates until at least one whole character is ready.
   *
   * @return as {@link #nextText(Task)}
   * @throws InfiniException as {@link #nextText(Task)}
   */
  public String nextText() {
    return nextText(null);
  }

  /**
   * Generates until at least one whole character is ready. What may be the beginning of a stop string is held back.
   *
   * @param task stage "generate", in tokens of the run; ends the call within a token, whether text comes or not; may be
   *     null
   * @return that text; null when the run has ended (end token, stop string, or option "max_tokens"), and the call after
   *     that begins a new run
   * @throws InfiniException STATE (nothing was fed yet, or the model has no tokenizer); CANCELLED (another call goes on)
   */
  public String nextText(Task task) {
    return run(task, (session, t) -> {
      int status;
      try {
        status = Native.infini_session_next_text(session, t, buffer, size);
      } catch (InfiniException e) {
        if (e.status() != Status.BUFFER_TOO_SMALL) throw e;
        buffer = new byte[Math.toIntExact(size[0])];
        status = Native.infini_session_next_text(session, t, buffer, size);
      }
      return status == Status.END
          ? null
          : new String(buffer, 0, (int) size[0], StandardCharsets.UTF_8);
    });
  }

  /**
   * The text of a run of generation, as it comes.
   *
   * @return as {@link #generate(Task)}
   */
  public Stream<String> generate() {
    return generate(null);
  }

  /**
   * The text of a run of generation, as it comes: each element is generated when it is asked for.
   *
   * @param task as in {@link #nextText(Task)}
   * @return a stream that ends with the run; its operations throw what {@link #nextText(Task)} throws
   */
  public Stream<String> generate(Task task) {
    return StreamSupport.stream(texts(task).spliterator(), false);
  }

  /**
   * The text of a run of generation, for a loop.
   *
   * @return as {@link #texts(Task)}
   */
  public Iterable<String> texts() {
    return texts(null);
  }

  /**
   * The text of a run of generation, for a loop: {@code for (String text : session.texts(task)) ...}. Each element is
   * generated when it is asked for; a loop that is left early leaves the run where it is.
   *
   * @param task as in {@link #nextText(Task)}
   * @return what ends with the run; its iterators throw what {@link #nextText(Task)} throws
   */
  public Iterable<String> texts(Task task) {
    return new Pull<>(() -> nextText(task));
  }

  /**
   * Samples a token from the last logits, feeds it and gives it.
   *
   * @return as {@link #next(Task)}
   * @throws InfiniException as {@link #next(Task)}
   */
  public int next() {
    return next(null);
  }

  /**
   * Samples a token from the last logits, feeds it and gives it. An end token ends the run and is not fed.
   *
   * @param task as in {@link #nextText(Task)}
   * @return the token; -1 when the run has ended, and the call after that begins a new run
   * @throws InfiniException STATE (nothing was fed yet); CANCELLED (another call goes on; a token may have been fed, as
   *     {@link #position} tells)
   */
  public int next(Task task) {
    int[] token = {0};
    run(task, (session, t) -> Native.infini_session_next(session, t, token));
    return token[0];
  }

  /**
   * The tokens of a run of generation, for a loop.
   *
   * @return as {@link #tokens(Task)}
   */
  public Iterable<Integer> tokens() {
    return tokens(null);
  }

  /**
   * The tokens of a run of generation, for a loop: each is generated when it is asked for.
   *
   * @param task as in {@link #nextText(Task)}
   * @return what ends with the run; its iterators throw what {@link #next(Task)} throws
   */
  public Iterable<Integer> tokens(Task task) {
    return new Pull<>(() -> {
      int token = next(task);
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
   * Cancels the call of this session that reads, generates or saves: it throws {@link CancelledException}. Where none runs,
   * nothing happens; who wants to stop a coming call gives it a {@link Task}. From any thread, without waiting for a turn.
   */
  public void cancel() {
    handle.call(this, this::cancel);
  }

  private int cancel(long session) {
    if (reading) stopped = true;
    return Native.infini_session_cancel(session);
  }

  /**
   * The logits after the last token, before any option of the sampler.
   *
   * @return {@link Model#vocabulary} numbers
   * @throws InfiniException STATE: nothing was fed yet
   */
  public float[] logits() {
    float[] logits = new float[vocabulary];
    call(session -> Native.infini_session_logits(session, logits, null));
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
    call(session -> Native.infini_session_embedding(session, embedding, null));
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
    run(task, (session, t) -> Native.infini_session_feed_logits(session, tokens, t, logits, null));
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
    run(task, (session, t) -> Native.infini_session_score(session, tokens, t, nll, null));
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
    run(task, (session, t) -> Native.infini_session_score_text(session, bytes, t, nll, scored));
    return new Score(nll[0], scored[0]);
  }

  /** Folds the open segment into the memory, though it is not full. Costs quality if done often. */
  public void closeSegment() {
    call(Native::infini_session_close_segment);
  }

  /**
   * Marks the last tokens as worth keeping, where the model keeps sentences (option "keep"): they stay in view before all
   * that it would keep by itself, those that are marked last first.
   *
   * @param tokens how many
   * @throws InfiniException STATE: the model keeps none; INVALID_ARGUMENT: more than the window holds
   */
  public void keep(long tokens) {
    call(session -> Native.infini_session_keep(session, tokens));
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
   * Tokens read since the stream began, generated ones included. It does not wait for a turn: while a call reads, they are
   * those of its chunks that are done.
   *
   * @return the number of tokens
   */
  public long position() {
    return handle.call(this, Session::position);
  }

  private static long position(long session) {
    long[] position = {0};
    Native.infini_session_position(session, position);
    return position[0];
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
   * @return position, bytes held, options, ...
   */
  public SessionInfo info() {
    return SessionInfo.of(text(Native::infini_session_info_json));
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
   * @throws InfiniException IO, NO_SPACE, CANCELLED (by the task or {@link #cancel}; an interruption of the thread only ends
   *     its waiting for a turn): what was there before is still there; STATE
   */
  public void save(Path path, boolean memoryOnly, String name, String note, Task task) {
    call(task, session -> Task.saving(task, t ->
        Native.infini_session_save(session, FileException.name(path), memoryOnly ? Snapshot.MEMORY : 0, name, note, t)));
  }

  /**
   * Takes a snapshot of the whole session.
   *
   * @return the snapshot
   * @throws InfiniException as {@link #snapshot(boolean, String, String, Task)}
   */
  public Snapshot snapshot() {
    return snapshot(false, "", "", null);
  }

  /**
   * Takes a snapshot.
   *
   * @param memoryOnly as in {@link #save(Path, boolean, String, String, Task)}
   * @param name kept in the snapshot for the caller
   * @param note the same
   * @param task stage "save", in bytes; may be null
   * @return the snapshot
   * @throws InfiniException STATE (an earlier error struck in the middle of a chunk); CANCELLED as in
   *     {@link #save(Path, boolean, String, String, Task)}
   */
  public Snapshot snapshot(boolean memoryOnly, String name, String note, Task task) {
    return Snapshot.owning(call(task, session -> Task.saving(task, t -> Utf8.bytes((buffer, size) ->
        Native.infini_session_save_buffer(session, memoryOnly ? Snapshot.MEMORY : 0, name, note, t, buffer, size)))));
  }

  /**
   * Puts the session where the snapshot was taken: all or nothing, so that after a failure the session is as it was.
   * Options of generation that this session was not given come from the snapshot.
   *
   * @param snapshot the snapshot
   * @param task can cancel before it begins; may be null
   * @throws InfiniException MODEL_MISMATCH, VERSION, CHECKSUM, FORMAT, TRUNCATED, CANCELLED
   */
  public void restore(Snapshot snapshot, Task task) {
    run(task, snapshot::restoreInto);
  }

  /**
   * Does what {@link #restore(Snapshot, Task)} does with the snapshot in a file.
   *
   * @param path the file
   * @param task can cancel before it begins; may be null
   * @throws InfiniException IO; else as {@link #restore(Snapshot, Task)}
   */
  public void restore(Path path, Task task) {
    run(task, (session, t) -> Native.infini_session_restore(session, FileException.name(path), t));
  }

  /**
   * Adds what a snapshot holds, its memory and the sentences that it keeps, to the session, or takes it away. The open
   * segment is closed first; window, position and logits stay, and no rewind goes back to before. All or nothing.
   *
   * @param snapshot the snapshot
   * @param weight how often it is added; below 0 it is taken away
   * @param task can cancel before it begins; may be null
   * @throws InfiniException INVALID_ARGUMENT (the weight, or more would be taken away than the memory holds); else as
   *     {@link #restore(Snapshot, Task)}
   */
  public void merge(Snapshot snapshot, double weight, Task task) {
    run(task, (session, t) -> snapshot.mergeInto(session, weight, t));
  }

  /**
   * Does what {@link #merge(Snapshot, double, Task)} does with the snapshot in a file.
   *
   * @param path the file
   * @param weight as there
   * @param task can cancel before it begins; may be null
   * @throws InfiniException IO; else as {@link #merge(Snapshot, double, Task)}
   */
  public void merge(Path path, double weight, Task task) {
    run(task, (session, t) -> Native.infini_session_merge(session, FileException.name(path), weight, t));
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
    handle.close(session -> {
      calls.cancel();
      cancel(session);
    });
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

  private interface LongCall<T> {
    T run(long session, long task);
  }

  /** Runs a long call with a task that may be null. */
  private <T> T run(Task task, LongCall<T> body) {
    return call(task, session -> Task.with(task == null ? own : task,
        t -> calls.watched(handle, t, () -> body.run(session, t))));
  }

  private <T> T call(LongFunction<T> body) {
    return call(null, body);
  }

  private <T> T call(Task task, LongFunction<T> body) {
    return handle.call(this, turn, task, body);
  }

  /** Runs body when its turn has come. */
  <T> T inTurn(Supplier<T> body) {
    return Handle.inTurn(turn, null, body);
  }
}
