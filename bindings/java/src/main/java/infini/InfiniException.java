package infini;

/**
 * What a call of the library failed with: a status, and a message that says what failed, where and what to do. Two kinds
 * have classes of their own: {@link CancelledException} and {@link FileException}.
 */
public class InfiniException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** The status's number in the C interface. */
  private final int code;

  InfiniException(int code, String message) {
    super(message);
    this.code = code;
  }

  /** Called by the native side, on the thread and in the call that failed. */
  static InfiniException of(int code, int systemError, byte[] message) {
    String words = Utf8.decode(message);
    return switch (Status.of(code)) {
      case CANCELLED -> new CancelledException(words);
      case IO, NO_SPACE, FORMAT, TRUNCATED, MODEL_MISMATCH, VERSION, CHECKSUM -> new FileException(code, systemError, words);
      default -> new InfiniException(code, words);
    };
  }

  /**
   * What kind of error this is.
   *
   * @return the status; {@link Status#UNKNOWN} where a newer library has a new one
   */
  public final Status status() {
    return Status.of(code);
  }

  /**
   * The status's number in the C interface.
   *
   * @return the number
   */
  public final int code() {
    return code;
  }
}
