package infini;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongFunction;

/**
 * Many sessions of one model that advance in one call, so that the model's weights are read once for all of them. A
 * session in a batch stays usable by itself. May be called from any thread; calls take turns, with those of its sessions
 * too.
 */
public final class Batch implements AutoCloseable {
  private final ReentrantLock turn = new ReentrantLock();
  private final List<Session> members = new CopyOnWriteArrayList<>(); // each held open here, in the library's order
  private final Task own = new Task(); // of calls that are given none
  private final Handle handle;

  Batch(Handle.Maker maker) {
    List<Session> held = members; // what frees the batch must not hold the batch itself
    Task task = own;
    handle = Handle.of("batch", batch -> {
      Native.infini_batch_free(batch);
      task.close();
      for (Session session : held) session.handle.done();
    }, maker).ownedBy(this);
  }

  /**
   * Adds a session as the last one.
   *
   * @param session a session of the batch's model
   * @return this
   * @throws InfiniException INVALID_ARGUMENT: the session belongs to another model, or is in the batch already
   */
  public Batch add(Session session) {
    call(batch -> {
      session.handle.use();
      try {
        session.inTurn(() -> Native.infini_batch_add(batch, session.handle.pointer()));
      } catch (Throwable e) {
        session.handle.done();
        throw e;
      }
      return members.add(session);
    });
    return this;
  }

  /**
   * Takes a session out, which may be closed.
   *
   * @param session a session of the batch
   * @throws IllegalArgumentException it is not in the batch
   */
  public void remove(Session session) {
    call(batch -> {
      int index = indexOf(session);
      session.inTurn(() -> Native.infini_batch_remove(batch, session.handle.pointer()));
      members.remove(index);
      session.handle.done();
      return null;
    });
  }

  /**
   * The sessions of the batch.
   *
   * @return a copy of the list, in the order in which they were added
   */
  public List<Session> sessions() {
    return List.copyOf(members);
  }

  /**
   * One token for every session.
   *
   * @return as {@link #next(Task)}
   * @throws InfiniException as {@link #next(Task)}
   */
  public int[] next() {
    return next(null);
  }

  /**
   * One token for every session, as {@link Session#next} would give it.
   *
   * @param task can cancel before it begins; may be null
   * @return the tokens in the order of {@link #sessions}, -1 for a session whose run has ended, and whose next run begins
   *     with the next call; null where no session got one
   * @throws InfiniException STATE (a session has no logits; nothing was done); CANCELLED
   * @throws IllegalStateException a session of the batch is closed: remove it
   */
  public int[] next(Task task) {
    return handle.call(this, turn, task, batch -> {
      List<Session> order = new ArrayList<>(members);
      order.sort(Comparator.comparingLong(session -> session.handle.pointer())); // two batches that share sessions must not wait for each other
      int[] tokens = new int[order.size()];
      int begun = 0;
      try {
        for (; begun < order.size(); ++begun) Handle.take(order.get(begun).turn, task);
        for (Session session : order) session.handle.requireOpen();
        int status = Task.with(task == null ? own : task, t -> Native.infini_batch_next(batch, t, tokens, null));
        return status == Status.END ? null : tokens;
      } finally {
        while (begun > 0) order.get(--begun).turn.unlock();
      }
    });
  }

  /**
   * The text of a session's tokens since it was last asked for.
   *
   * @param session a session of the batch
   * @return whole characters, stop strings withheld; may be empty
   * @throws IllegalArgumentException it is not in the batch
   */
  public String text(Session session) {
    return call(batch -> {
      long index = indexOf(session);
      return session.inTurn(() -> Utf8.text((buffer, size) -> Native.infini_batch_text(batch, index, buffer, size)));
    });
  }

  /** Frees the batch, not its sessions. Closing again does nothing. */
  @Override public void close() {
    handle.close(batch -> {});
  }

  private int indexOf(Session session) {
    int index = members.indexOf(session);
    if (index < 0) throw new IllegalArgumentException("the session is not in the batch");
    return index;
  }

  private <T> T call(LongFunction<T> body) {
    return handle.call(this, turn, null, body);
  }
}
