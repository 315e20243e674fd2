package infini;

/**
 * A call was cancelled: by its {@link Task}, by {@link Session#cancel}, because its object was closed, or because its
 * thread was interrupted, whose interrupt status stays set. What was done before is kept.
 */
public final class CancelledException extends InfiniException {
  private static final long serialVersionUID = 1L;

  CancelledException(String message) {
    super(Status.CANCELLED.code(), message);
  }

  /** Throws where the thread was interrupted. */
  static void ifInterrupted() {
    if (Thread.currentThread().isInterrupted()) throw new CancelledException("the thread of the call was interrupted");
  }
}
