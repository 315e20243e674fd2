import infini.CancelledException;
import infini.Session;
import infini.Task;
import java.io.IOException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** A session, used by one request at a time. */
final class Client {
  final Session session;
  private final Consumer<Client> renew; // is done before each use; null: nothing is
  private final Semaphore turn = new Semaphore(1);
  volatile Call call; // that uses the session; null: none does
  volatile String known = ""; // of a memory: the digest of the messages that it has read
  volatile String note = ""; // its owner's
  volatile String version; // of one that is stored, too: what the session goes on from; null: none is stored
  volatile boolean filled; // a memory: it holds something that was kept
  volatile long used = System.nanoTime(); // when it last was
  volatile long bytes; // of the session, after its last use: while it is used, asking would wait
  int users; // of a memory: requests that name it, of which one has its turn; Sessions counts them
  private volatile boolean ending;

  static final String UNKNOWN = "?"; // a version that no store has

  Client(Session session, Consumer<Client> renew) {
    this.session = session;
    this.renew = renew;
    measure();
  }

  private void measure() {
    try {
      bytes = session.info().sessionBytes();
    } catch (IllegalStateException e) {
      // it was deleted
    }
  }

  /** What a request does with a session. */
  static final class Call implements AutoCloseable {
    final Task task = new Task();
    volatile Ahead text; // that is fed; null: none is
    volatile Refusal reason; // for which it was ended
    private volatile Runnable whenEnded;

    /** Has something done when it is ended; null: nothing. Who then finds a reason was too late. */
    void whenEnded(Runnable work) {
      whenEnded = work;
    }

    /** Ends it within a chunk or a token, whether something comes in or out, or not. */
    void end(Refusal why) {
      if (reason == null) reason = why;
      Runnable waiting = whenEnded;
      if (waiting != null) waiting.run();
      Ahead reading = text;
      if (reading != null) reading.fail(why);
      try {
        task.cancel();
      } catch (IllegalStateException e) {
        // it has ended by itself
      }
    }

    @Override public void close() {
      task.close();
    }
  }

  interface Use {
    void run(Call call) throws IOException;
  }

  void cancel() {
    Call running = call;
    if (running != null) running.end(new Refusal(409, "CANCELLED", "the call was cancelled"));
  }

  /** Cancels what runs and what comes. */
  void end() {
    ending = true;
    cancel();
  }

  boolean free() {
    return turn.availablePermits() > 0;
  }

  /** Takes the session from all requests to come, unless one uses it. */
  boolean takeForGood() {
    return turn.tryAcquire();
  }

  /** Runs what uses the session, where no other request does. */
  void inTurn(Use use) throws IOException {
    try (Call call = new Call()) {
      inTurn(call, use);
    }
  }

  void inTurn(Call call, Use use) throws IOException {
    try {
      if (!turn.tryAcquire(1, TimeUnit.SECONDS)) // the request before may have answered and not quite ended
        throw new Refusal(409, "BUSY", "another request uses the session");
    } catch (InterruptedException e) {
      throw new Refusal(409, "BUSY", "the service is interrupted");
    }
    try {
      this.call = call;
      used = System.nanoTime();
      if (ending) cancel();
      if (renew != null) renew.accept(this);
      use.run(call);
    } catch (CancelledException e) {
      throw call.reason == null ? e : call.reason;
    } catch (IllegalStateException e) { // it was deleted
      throw call.reason == null ? new Refusal(404, "NOT_FOUND", "there is no such session") : call.reason;
    } finally {
      this.call = null;
      measure();
      used = System.nanoTime();
      turn.release();
    }
  }
}
