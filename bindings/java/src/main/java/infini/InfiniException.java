package infini;

/** What a call of the library failed with: a status, and a message that says what failed, where and what to do. */
public final class InfiniException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** The status's number in the C interface. */
  private final int code;

  /** Called by the native side, on the thread and in the call that failed. */
  InfiniException(int code, byte[] message) {
    super(Utf8.decode(message));
    this.code = code;
  }

  /**
   * What kind of error this is.
   *
   * @return the status; {@link Status#UNKNOWN} where a newer library has a new one
   */
  public Status status() {
    return Status.of(code);
  }

  /**
   * The status's number in the C interface.
   *
   * @return the number
   */
  public int code() {
    return code;
  }
}
