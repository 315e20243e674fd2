import infini.Batch;
import infini.CancelledException;
import infini.Session;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Lets sessions write together, through one batch of the library, token by token. A run joins and leaves between two tokens.
 */
final class Writer {
  private static final int MOST_BEHIND = 1 << 16; // characters that a client may be behind what is written for it

  private final Batch batch;
  private final ReentrantLock lock = new ReentrantLock();
  private List<Run> joining = new ArrayList<>();
  private boolean busy; // its thread is there

  Writer(Batch batch) {
    this.batch = batch;
  }

  /** What one request has its session write. It ends with its call. */
  final class Run {
    private final Session session;
    private final Client.Call call;
    private final Condition more = lock.newCondition();
    private final StringBuilder text = new StringBuilder();
    private boolean writing = true; // it is in the batch, or will be
    private boolean ended;
    private String reason;
    private RuntimeException failure;

    private Run(Session session, Client.Call call) {
      this.session = session;
      this.call = call;
    }

    /** What was written since; empty where nothing was for so long; null when the run has ended and has left the batch. */
    String take(long seconds) {
      lock.lock();
      try {
        long left = TimeUnit.SECONDS.toNanos(seconds);
        while (text.length() == 0 && !ended && left > 0) {
          if (!writing) join(this); // it has waited for us
          left = waitFor(left);
        }
        String written = text.toString();
        text.setLength(0);
        if (!written.isEmpty() || !ended) return written;
        if (failure != null) throw failure;
        return null;
      } finally {
        lock.unlock();
      }
    }

    /** Why it has ended. */
    String reason() {
      return reason;
    }

    private long waitFor(long nanos) {
      try {
        return more.awaitNanos(nanos);
      } catch (InterruptedException e) {
        return 0;
      }
    }

    /** Hands over what was written. Returns whether the client is so far behind that the run must wait. */
    private boolean give(String written) {
      lock.lock();
      try {
        text.append(written);
        writing = text.length() < MOST_BEHIND;
        more.signal();
        return !writing;
      } finally {
        lock.unlock();
      }
    }

    /** Takes it out of the batch and hands over the last of it. */
    private void leave(String written, String why, RuntimeException fault) {
      batch.remove(session);
      end(written, why, fault);
    }

    private void end(String written, String why, RuntimeException fault) {
      lock.lock();
      text.append(written);
      writing = false;
      ended = true;
      reason = why;
      failure = fault;
      more.signal();
      lock.unlock();
    }
  }

  /** Lets a session write; the caller takes what comes, until it has ended. */
  Run begin(Session session, Client.Call call) {
    Run run = new Run(session, call);
    join(run);
    return run;
  }

  private void join(Run run) {
    lock.lock();
    try {
      run.writing = true;
      joining.add(run);
      if (busy) return;
      busy = true;
    } finally {
      lock.unlock();
    }
    Thread thread = new Thread(this::write, "writer");
    thread.setDaemon(true);
    thread.start();
  }

  /** Goes on until no run is left. */
  private void write() {
    List<Run> runs = new ArrayList<>(); // in the order of the batch
    while (true) {
      List<Run> joined;
      lock.lock();
      try {
        joined = joining;
        joining = new ArrayList<>();
        busy = !runs.isEmpty() || !joined.isEmpty();
        if (!busy) return;
      } finally {
        lock.unlock();
      }
      for (Run run : joined) {
        try {
          batch.add(run.session);
          runs.add(run);
        } catch (RuntimeException | OutOfMemoryError e) {
          run.end("", "", failure(e));
        }
      }
      runs.removeIf(run -> {
        boolean leaves = run.call.reason != null;
        if (leaves) run.leave("", "cancelled", null);
        return leaves;
      });
      if (!runs.isEmpty()) runs = step(runs);
    }
  }

  /**
   * Lets each run write a token, and returns those that go on. Where they cannot go together, each goes alone, so that the fault of
   * one is not that of the others.
   */
  private List<Run> step(List<Run> runs) {
    int[] tokens = null;
    boolean together = true;
    try {
      tokens = batch.next();
    } catch (RuntimeException | OutOfMemoryError e) {
      together = false;
    }
    List<Run> staying = new ArrayList<>();
    for (int i = 0; i < runs.size(); ++i) {
      Run run = runs.get(i);
      String text = "";
      try {
        boolean goesOn = together ? tokens != null && tokens[i] >= 0 : run.session.next(run.call.task) >= 0;
        text = batch.text(run.session);
        if (!goesOn) run.leave(text, run.session.stopReason(), null);
        else if (run.give(text)) batch.remove(run.session); // until the client has taken it
        else staying.add(run);
      } catch (CancelledException e) {
        run.leave(text, "cancelled", null);
      } catch (RuntimeException | OutOfMemoryError e) {
        run.leave(text, "", failure(e));
      }
    }
    return staying;
  }

  private static RuntimeException failure(Throwable e) {
    return e instanceof RuntimeException failed ? failed : Refusal.of(e);
  }
}
