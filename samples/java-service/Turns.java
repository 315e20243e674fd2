import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Lets so many in at once. Of those that wait the client is let in whose last turn was the longest ago, so that one with many
 * requests does not hold up others.
 */
final class Turns {
  private static final int MOST_KNOWN = 1 << 12; // clients of which it is known when they were let in

  private final ReentrantLock lock = new ReentrantLock();
  private final long most;
  private final long bound; // of those that wait; -1: none
  private final Map<String, ArrayDeque<Waiting>> queues = new HashMap<>(); // of clients that wait
  private final Map<String, Long> last = new HashMap<>(); // when a client was let in last or, where that is not known, came
  private long clock; // of these
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
    await(client, call, bound);
  }

  /** Waits for a turn, which is not refused, since the request has had one. */
  void again(String client, Client.Call call) {
    await(client, call, -1);
  }

  private void await(String client, Client.Call call, long bound) {
    lock.lock();
    try {
      if (inside < most) {
        ++inside;
        stamp(client);
        return;
      }
      if (bound >= 0 && waiting >= bound)
        throw new Refusal(429, "QUEUE_FULL", waiting + " requests wait already; try again later");
      if (!last.containsKey(client)) stamp(client);
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

  /** About when who waits now has had its turn, in seconds. */
  long retryAfter() {
    return 1 + waiting() / most;
  }

  /** Gives a turn that ends to who waits. */
  private void next() {
    if (queues.isEmpty()) {
      --inside;
      return;
    }
    String client = Collections.min(queues.keySet(), Comparator.comparing(last::get));
    Waiting first = queues.get(client).peek();
    first.let = true;
    first.changed.signal();
    drop(client, first);
    stamp(client);
  }

  private void stamp(String client) {
    if (last.size() >= MOST_KNOWN) last.keySet().retainAll(queues.keySet());
    last.put(client, ++clock);
  }

  private void drop(String client, Waiting who) {
    --waiting;
    ArrayDeque<Waiting> queue = queues.get(client);
    queue.remove(who);
    if (queue.isEmpty()) queues.remove(client);
  }
}
