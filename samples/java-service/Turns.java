import java.util.ArrayDeque;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Lets so many in at once. Who waits is let in by clients in turn, so that one with many requests does not hold up others.
 */
final class Turns {
  private final ReentrantLock lock = new ReentrantLock();
  private final long most;
  private final long bound; // of those that wait; -1: none
  private final Map<String, ArrayDeque<Waiting>> queues = new LinkedHashMap<>(); // by client, the next one first
  private long inside;
  private long waiting;

  private final class Waiting {
    final Condition changed = lock.newCondition();
    boolean let;
  }

  Turns(long most, long bound) {
    this.most = Math.max(most, 1);
    this.bound = bound;
  }

  /** Waits for a turn, which ends with {@link #leave}, or until the call is ended. */
  void take(String client, Client.Call call) {
    lock.lock();
    try {
      if (inside < most) {
        ++inside;
        return;
      }
      if (bound >= 0 && waiting >= bound)
        throw new Refusal(429, "QUEUE_FULL", waiting + " requests wait already; try again later");
      Waiting mine = new Waiting();
      queues.computeIfAbsent(client, c -> new ArrayDeque<>()).add(mine);
      ++waiting;
      call.whenEnded(() -> {
        lock.lock();
        mine.changed.signal();
        lock.unlock();
      });
      while (!mine.let && call.reason == null) mine.changed.awaitUninterruptibly();
      call.whenEnded(null);
      if (call.reason == null) return;
      if (mine.let) next();
      else drop(client, mine);
      throw call.reason;
    } finally {
      lock.unlock();
    }
  }

  void leave() {
    lock.lock();
    next();
    lock.unlock();
  }

  long inside() {
    lock.lock();
    try {
      return inside;
    } finally {
      lock.unlock();
    }
  }

  long waiting() {
    lock.lock();
    try {
      return waiting;
    } finally {
      lock.unlock();
    }
  }

  /** Whether nobody else may wait. */
  boolean full() {
    return bound > 0 && waiting() >= bound;
  }

  /** When to try again, in seconds: about when who waits now has had its turn. */
  long retryAfter() {
    return 1 + waiting() / most;
  }

  /** Gives a turn that ends to who waits. */
  private void next() {
    if (queues.isEmpty()) {
      --inside;
      return;
    }
    String client = queues.keySet().iterator().next();
    Waiting first = queues.get(client).peek();
    first.let = true;
    first.changed.signal();
    drop(client, first);
    ArrayDeque<Waiting> others = queues.remove(client);
    if (others != null) queues.put(client, others); // behind the other clients
  }

  private void drop(String client, Waiting who) {
    --waiting;
    ArrayDeque<Waiting> queue = queues.get(client);
    queue.remove(who);
    if (queue.isEmpty()) queues.remove(client);
  }
}
