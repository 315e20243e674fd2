import infini.InfiniException;
import infini.Model;
import infini.Session;
import java.io.IOException;
import java.util.Arrays;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** What computes: requests have their turn, and limits. */
final class Work {
  private static final int MAX_PIECE = 256; // tokens of a prompt that are read before others have their turn
  private static final long HEARTBEAT = 5; // seconds, of comments while no text comes

  private final Model model;
  private final long maxSeconds = Settings.number("INFINI_MAX_SECONDS", 3600);
  private final long maxPrompt = Settings.number("INFINI_MAX_PROMPT", 1 << 17); // tokens that a request may have read
  private final Turns reading = new Turns(2, -1); // each uses the processors as it can
  private final Writer writer;
  private final Operators operators;
  final Turns working = new Turns(Settings.number("INFINI_BATCH", 16), Settings.number("INFINI_QUEUE", 64));

  interface Act {
    void run() throws IOException;
  }

  Work(Model model, Operators operators) {
    this.model = model;
    this.operators = operators;
    writer = new Writer(model.newBatch());
  }

  /** Does what computes when its turn has come, and for so long as a request may take. */
  void act(Connection connection, Client.Call call, Act act) throws IOException {
    working.take(connection.client, call);
    Future<?> alarm = maxSeconds == 0 ? null : Connection.TIMER.schedule(
        () -> call.end(new Refusal(504, "TIMEOUT", "the request took longer than it may")), maxSeconds, TimeUnit.SECONDS);
    try {
      act.run();
    } finally {
      if (alarm != null) alarm.cancel(false);
      working.leave();
    }
  }

  /** Reads a plain text into a session. */
  void readText(Connection connection, Session session, String text, Client.Call call) {
    read(connection, session, text, call, () -> model.tokenize(text, false, session.position() == 0),
        () -> session.feed(text, call.task));
  }

  /** Reads messages into a session. once: the conversation does not go on later, and nobody must know that it has begun. */
  void readChat(Connection connection, Session session, String messages, boolean once, Client.Call call) {
    read(connection, session, messages, call, once ? () -> model.chatTokensJson(messages, true, true) : null,
        () -> session.chatJson(messages, call.task));
  }

  /** Reads a text in pieces, between which others have their turn. Where its tokens cannot be told before, it is read whole. */
  private void read(Connection connection, Session session, String text, Client.Call call, Supplier<int[]> split, Runnable whole) {
    int[] tokens = split == null ? null : attempt(split, null); // what is wrong with it, whole says
    int count = tokens != null ? tokens.length : attempt(() -> model.tokenCount(text, false, false), 0);
    if (count > maxPrompt)
      throw new Refusal(400, "CONTEXT_LENGTH_EXCEEDED", "the request has " + count + " tokens to read, but may have " + maxPrompt);
    for (int begin = 0; begin < (tokens == null ? 1 : count); begin += MAX_PIECE) {
      reading.take(connection.client, call);
      long before = session.position();
      try {
        if (tokens == null) whole.run();
        else session.feed(Arrays.copyOfRange(tokens, begin, Math.min(begin + MAX_PIECE, count)), call.task);
        connection.read += session.position() - before;
      } finally {
        reading.leave();
      }
    }
  }

  static <T> T attempt(Supplier<T> get, T otherwise) {
    try {
      return get.get();
    } catch (InfiniException | IllegalArgumentException | IllegalStateException e) {
      return otherwise;
    }
  }

  interface Take {
    void piece(String text) throws IOException;
  }

  /**
   * Lets the model write, piece by piece, and returns why it ended: "cancelled" too, when the client goes away, and "max_time"; the
   * session may go on. With beats, comments are sent while no text comes.
   */
  String run(Connection connection, Session session, Client.Call call, Take take, boolean beats) {
    long before = session.position();
    Writer.Run run = writer.begin(session, call);
    try {
      while (true) {
        String text = run.take(HEARTBEAT);
        if (text == null) break;
        try {
          if (!text.isEmpty()) {
            operators.firstToken(connection);
            take.piece(text);
          } else if (beats) {
            take.piece(null);
          }
        } catch (IOException e) {
          call.end(Refusal.left()); // nobody listens
        }
      }
      connection.written += session.position() - before;
    } catch (IllegalStateException e) { // it was deleted
      return "cancelled";
    }
    return run.reason().equals("cancelled") && call.reason != null && call.reason.code == 504 ? "max_time" : run.reason();
  }
}
