import infini.Model;
import infini.Session;
import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/** What computes: requests have their turn, and limits. */
final class Work {
  private static final int MAX_PIECE = 256; // tokens of a prompt that are read before others have their turn
  private static final long HEARTBEAT = 5; // seconds, of comments while no text comes

  private final long maxSeconds = Settings.number("INFINI_MAX_SECONDS", 3600);
  private final long maxPrompt = Settings.number("INFINI_MAX_PROMPT", 1 << 17); // tokens that a request may have read
  private final Turns reading = new Turns(1, -1); // who reads a piece of a prompt, with all processors
  private final Writer writer;
  private final Operators operators;
  private final Turns working = new Turns(Settings.number("INFINI_BATCH", 16), Settings.number("INFINI_QUEUE", 64));
  private final Turns feeding = new Turns(1, Settings.number("INFINI_QUEUE", 64)); // feeds that have text; one reads beside these

  interface Act {
    void run() throws IOException;
  }

  Work(Model model, Operators operators) {
    this.operators = operators;
    writer = new Writer(model.newBatch());
  }

  /** Requests that read or write. */
  long inside() {
    return working.inside() + feeding.inside();
  }

  /** Requests that wait for their turn. */
  long waiting() {
    return working.waiting() + feeding.waiting();
  }

  /** Whether nobody else may wait. */
  boolean full() {
    return working.full() || feeding.full();
  }

  /** When to try again, in seconds: about when who waits now has had its turn. */
  long retryAfter() {
    return working.retryAfter() + feeding.waiting();
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

  /** Reads a text of any length into a session, a piece in a turn. */
  void feed(Connection connection, Session session, InputStream text, Client.Call call) throws IOException {
    try (InTurns pieces = new InTurns(text, feeding, connection.client, call)) {
      session.feed(pieces, call.task);
    }
  }

  /** Reads a plain text into a session. */
  void readText(Connection connection, Session session, String text, Client.Call call) {
    read(connection, session, session.textTokens(text), call);
  }

  /** Reads messages into a session, and begins the reply. */
  void readChat(Connection connection, Session session, String messages, Client.Call call) {
    read(connection, session, session.chatTokensJson(messages), call);
    session.startGeneration();
  }

  /** Reads tokens in pieces, between which others have their turn. */
  private void read(Connection connection, Session session, int[] tokens, Client.Call call) {
    if (tokens.length > maxPrompt)
      throw new Refusal(400, "CONTEXT_LENGTH_EXCEEDED", "the request has " + tokens.length + " tokens to read, but may have " + maxPrompt);
    for (int begin = 0; begin < tokens.length; begin += MAX_PIECE) {
      reading.again(connection.client, call);
      long before = session.position();
      try {
        session.feed(Arrays.copyOfRange(tokens, begin, Math.min(begin + MAX_PIECE, tokens.length)), call.task);
        connection.read += session.position() - before;
      } finally {
        reading.leave();
      }
    }
  }

  /** Where a session is; `otherwise`: it was deleted. */
  static long positionOf(Session session, long otherwise) {
    try {
      return session.position();
    } catch (IllegalStateException e) {
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
