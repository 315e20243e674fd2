package infini;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;
import java.util.function.LongFunction;

/**
 * Watches and cancels a long call of another thread: pass it to the call and poll it from elsewhere. It may be used for
 * many calls, one at a time, and its methods may be called from any thread at any time.
 */
public final class Task implements AutoCloseable {
  private final Handle handle = Handle.of("task", Native::infini_task_free, made -> {
    Native.infini_task_create(made);
    Native.infini_task_hear_interruptions(made[0]);
  }).ownedBy(this);
  private final ReentrantLock state = new ReentrantLock(); // of the two below, for as short as that takes
  private boolean waiting; // a call with this task waits for its turn
  private volatile boolean cancelled; // that call was
  private volatile Reading reading; // the call that reads a stream, or the last one that did; null: another call came since

  /** Makes a task that watches nothing yet. */
  public Task() {}

  /**
   * Runs work on an executor, with a task that belongs to it. Cancelling the future cancels the call that runs.
   *
   * <pre>{@code CompletableFuture<Model> model = Task.async(executor, task -> Model.open(path, null, task));}</pre>
   *
   * @param <T> what the work gives
   * @param executor where it runs
   * @param work gets the task, which it passes to its calls
   * @return completes with what the work gave or threw
   */
  public static <T> CompletableFuture<T> async(Executor executor, Function<Task, T> work) {
    Task task = new Task();
    CompletableFuture<T> future = new CompletableFuture<>() {
      @Override public boolean cancel(boolean mayInterrupt) {
        boolean cancelled = super.cancel(mayInterrupt);
        if (cancelled) task.cancelIfOpen();
        return cancelled;
      }
    };
    executor.execute(() -> {
      try (task) {
        if (future.isDone()) return;
        T result = work.apply(task);
        if (!future.complete(result) && result instanceof AutoCloseable late) late.close(); // nobody will
      } catch (Throwable e) {
        future.completeExceptionally(e);
      }
    });
    return future;
  }

  /**
   * Cancels the call that runs with this task or, if none does, the next one: it throws {@link CancelledException}, between
   * two chunks, layers or tokens, or while it waits for its turn.
   */
  public void cancel() {
    call(task -> {
      state.lock();
      try {
        if (waiting) cancelled = true;
        else Native.infini_task_cancel(task);
      } finally {
        state.unlock();
      }
      return null;
    });
  }

  /** Takes a turn for a call with this task. A cancel or an interruption ends the waiting. */
  void waitFor(ReentrantLock turn) throws InterruptedException {
    setWaiting(true);
    try {
      while (!turn.tryLock(10, TimeUnit.MILLISECONDS) && !cancelled) continue;
    } finally {
      setWaiting(false);
    }
    if (!cancelled) return;
    if (turn.isHeldByCurrentThread()) turn.unlock();
    throw new CancelledException("cancelled while the call waited for its turn; nothing was done");
  }

  private void setWaiting(boolean now) {
    state.lock();
    waiting = now;
    if (now) cancelled = false;
    state.unlock();
  }

  private void cancelIfOpen() {
    try {
      cancel();
    } catch (IllegalStateException e) {
      // the work has ended
    }
  }

  /**
   * How far the call has come, in matrices, tokens, bytes, sequences or steps: its comment says which. It never goes back
   * while a call runs.
   *
   * @return what is done
   */
  public long done() {
    Reading now = reading;
    if (now == null) return number(Native::infini_task_done);
    return now.done(() -> number(Native::infini_task_done), () -> number(Native::infini_task_total));
  }

  /**
   * How far the call will go.
   *
   * @return the total, 0 where it is not known
   */
  public long total() {
    Reading now = reading;
    return now == null ? number(Native::infini_task_total) : now.total;
  }

  /**
   * What the call does.
   *
   * @return "idle", "open", "feed", "train", ...
   */
  public String stage() {
    return call(task -> Utf8.text((buffer, size) -> Native.infini_task_stage(task, buffer, size)));
  }

  /** Lets the task go; a call that runs with it goes on. Closing again does nothing. */
  @Override public void close() {
    handle.close(task -> {});
  }

  /** Runs a long call with a task, or with one of its own where that is null: it hears interruptions of its thread. */
  static <T> T with(Task task, LongFunction<T> body) {
    if (task == null) {
      try (Task own = new Task()) {
        return with(own, body);
      }
    }
    CancelledException.ifInterrupted();
    return saving(task, body);
  }

  /** Runs body with a task that may be null. What is to be kept is kept: it hears the task alone. */
  static <T> T saving(Task task, LongFunction<T> body) {
    if (task == null) return body.apply(0);
    task.reading = null;
    return task.call(body);
  }

  /** Watches a stream that is read in pieces, each by a native call with this task. */
  void watch(Reading reading) {
    this.reading = reading;
  }

  /** Called by the native side between the steps of a call, on its thread. */
  static boolean interrupted() {
    return Thread.currentThread().isInterrupted();
  }

  private interface Getter {
    int get(long task, long[] value);
  }

  private long number(Getter getter) {
    long[] value = {0};
    call(task -> getter.get(task, value));
    return value[0];
  }

  <T> T call(LongFunction<T> body) {
    return handle.call(this, body);
  }
}
