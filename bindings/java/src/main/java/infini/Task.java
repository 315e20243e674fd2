package infini;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.function.Function;
import java.util.function.LongFunction;

/**
 * Watches and cancels a long call of another thread: pass it to the call and poll it from elsewhere. It may be used for
 * many calls, one at a time, and its methods may be called from any thread at any time.
 */
public final class Task implements AutoCloseable {
  private final Handle handle = Handle.of("task", Native::infini_task_free, Native::infini_task_new).ownedBy(this);

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

  /** Cancels the call that runs with this task or, if none does, the next one: it throws CANCELLED. */
  public void cancel() {
    call(Native::infini_task_cancel);
  }

  private void cancelIfOpen() {
    try {
      cancel();
    } catch (IllegalStateException e) {
      // the work has ended
    }
  }

  /**
   * How far the call has come, in matrices, tokens, bytes, sequences or steps.
   *
   * @return what is done
   */
  public long done() {
    return number(Native::infini_task_done);
  }

  /**
   * How far the call will go.
   *
   * @return the total, 0 where it is not known
   */
  public long total() {
    return number(Native::infini_task_total);
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

  /** Runs body with a task that may be null. */
  static <T> T with(Task task, LongFunction<T> body) {
    return task == null ? body.apply(0) : task.call(body);
  }

  private interface Getter {
    int get(long task, long[] value);
  }

  private long number(Getter getter) {
    long[] value = {0};
    call(task -> getter.get(task, value));
    return value[0];
  }

  private <T> T call(LongFunction<T> body) {
    return handle.call(this, body);
  }
}
