package infini;

import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;

/** Runs the long calls of a native object, one at a time, each with a task by which closing the object cancels it. */
final class LongCalls {
  private final ReentrantLock watch = new ReentrantLock(); // of running, for as short as that takes
  private long running; // the native task of the call that runs; 0: none does

  /** A call of the library, which gives its status. */
  interface Body {
    int run(long object, long task);
  }

  /** What is made of it in the same turn. */
  interface Then<T> {
    T of(long object, int status);
  }

  /** Runs a call in its turn. The task may be null. */
  <T> T run(Object owner, Handle handle, ReentrantLock turn, Task task, Body body, Then<T> then) {
    if (task == null) {
      try (Task own = new Task()) {
        return run(owner, handle, turn, own, body, then);
      }
    }
    return handle.call(owner, turn, task, object -> Task.with(task,
        t -> then.of(object, watched(handle, t, () -> body.run(object, t)))));
  }

  /** Runs a call that has its turn with a native task, which closing the object cancels from here on. */
  <T> T watched(Handle handle, long task, Supplier<T> body) {
    setRunning(task);
    try {
      handle.requireOpen(); // here and not before: now close sees the task
      return body.get();
    } finally {
      setRunning(0);
    }
  }

  /** Closes the object, and before cancels the call that runs, if any. */
  void close(Handle handle) {
    handle.close(object -> cancel());
  }

  /** Cancels the call that runs, if any. */
  void cancel() {
    watch.lock();
    try {
      if (running != 0) Native.infini_task_cancel(running);
    } finally {
      watch.unlock();
    }
  }

  private void setRunning(long task) {
    watch.lock();
    running = task;
    watch.unlock();
  }
}
