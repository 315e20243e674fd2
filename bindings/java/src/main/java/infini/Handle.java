package infini;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongConsumer;
import java.util.function.LongFunction;
import java.util.function.Supplier;

/**
 * Owns one native object. It counts the calls that use it, and its owner as one more: the last to let go frees it, so
 * that closing is safe at any time, from any thread, any number of times.
 */
final class Handle {
  private static final Cleaner CLEANER = Cleaner.create();

  private final String kind;
  private final long pointer;
  private final LongConsumer free;
  private final AtomicLong users = new AtomicLong(1);
  private final AtomicBoolean closed = new AtomicBoolean();

  /** A call that makes a native object and puts it into an array of one. */
  interface Maker {
    void make(long[] pointer);
  }

  private Handle(String kind, long pointer, LongConsumer free) {
    this.kind = kind;
    this.pointer = pointer;
    this.free = free;
  }

  static Handle of(String kind, LongConsumer free, Maker maker) {
    long[] pointer = {0};
    maker.make(pointer);
    return new Handle(kind, pointer[0], free);
  }

  /** Frees the native object some time after the owner was dropped. A call that still runs is not disturbed. */
  Handle ownedBy(Object owner) {
    CLEANER.register(owner, () -> close(pointer -> {}));
    return this;
  }

  /** Refuses new calls and lets the owner go; before, where it is the first, cancels what runs. */
  void close(LongConsumer cancel) {
    if (!closed.compareAndSet(false, true)) return;
    try {
      cancel.accept(pointer);
    } finally {
      done();
    }
  }

  /** Runs body with the native object, whose owner is not let go of before: else it might be closed while body waits. */
  <T> T call(Object owner, LongFunction<T> body) {
    use();
    try {
      return body.apply(pointer);
    } finally {
      done();
      Reference.reachabilityFence(owner);
    }
  }

  /** Does the same when its turn has come, if the object is still open then. The task may be null. */
  <T> T call(Object owner, ReentrantLock turn, Task task, LongFunction<T> body) {
    return call(owner, pointer -> inTurn(turn, task, () -> {
      requireOpen();
      return body.apply(pointer);
    }));
  }

  /** Runs body when its turn has come. A cancel of the task, which may be null, or an interruption ends the waiting. */
  static <T> T inTurn(ReentrantLock turn, Task task, Supplier<T> body) {
    take(turn, task);
    try {
      return body.get();
    } finally {
      turn.unlock();
    }
  }

  static void take(ReentrantLock turn, Task task) {
    if (turn.tryLock()) return;
    try {
      if (task == null) turn.lockInterruptibly();
      else task.waitFor(turn);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new CancelledException("the thread was interrupted while it waited for its turn; nothing was done");
    }
  }

  /** The native object, for those who use it and are not done. */
  long pointer() {
    return pointer;
  }

  void requireOpen() {
    if (closed.get()) throw new IllegalStateException("the " + kind + " is closed");
  }

  /** Keeps the native object until done, closed or not. */
  void use() {
    long now;
    do {
      requireOpen();
      now = users.get();
    } while (now == 0 || !users.compareAndSet(now, now + 1));
  }

  void done() {
    if (users.decrementAndGet() == 0) free.accept(pointer);
  }
}
