package infini;

/** What kind of error a call met. The numbers are those of the C interface and never change. */
public enum Status {
  /** An argument is out of range or not what it should be. */
  INVALID_ARGUMENT(100),
  /** No option has that name. */
  UNKNOWN_OPTION(101),
  /** A buffer is smaller than what it should take. */
  BUFFER_TOO_SMALL(102),
  /** A file could not be opened, read, written or replaced. */
  IO(200),
  /** The disk or the file-size limit is full. */
  NO_SPACE(201),
  /** A file is damaged or is not what it claims to be. */
  FORMAT(300),
  /** A file ends before its contents do. */
  TRUNCATED(301),
  /** A snapshot belongs to another model. */
  MODEL_MISMATCH(400),
  /** A file was written by a newer version. */
  VERSION(500),
  /** A checksum does not match: the file was changed or damaged. */
  CHECKSUM(600),
  /** Memory could not be allocated. */
  OUT_OF_MEMORY(700),
  /** The call was cancelled. */
  CANCELLED(800),
  /** The call does not fit the state of the object. */
  STATE(900),
  /** Valid, but not something this version can do. */
  UNSUPPORTED(1000),
  /** A fault of the library itself; please report it. */
  INTERNAL(1100),
  /** A status that a newer library has and this package does not know; see {@link InfiniException#code}. */
  UNKNOWN(-1);

  /** END of the C interface: nothing more comes. */
  static final int END = 1;

  private final int code;

  Status(int code) {
    this.code = code;
  }

  /**
   * The status's number in the C interface.
   *
   * @return the number, -1 for {@link #UNKNOWN}
   */
  public int code() {
    return code;
  }

  static Status of(int code) {
    for (Status status : values()) {
      if (status.code == code) return status;
    }
    return UNKNOWN;
  }
}
