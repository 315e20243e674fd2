package infini;

import java.nio.ByteBuffer;
import java.nio.file.Path;

/**
 * A saved session, or its memory alone, as bytes. It never changes, and any thread may use it. Its bytes are Java's own:
 * closing it only lets them go earlier than the garbage collector would.
 */
public final class Snapshot implements AutoCloseable {
  static final int MEMORY = 1; // INFINI_SNAPSHOT_MEMORY
  private static final int VERIFY = 2; // INFINI_SNAPSHOT_VERIFY

  private volatile byte[] bytes; // null: closed

  private Snapshot(byte[] bytes) {
    this.bytes = bytes;
  }

  /** Takes bytes that nobody else holds. */
  static Snapshot owning(byte[] bytes) {
    return new Snapshot(bytes);
  }

  /**
   * A snapshot that was saved before. It is checked when it is restored or inspected.
   *
   * @param bytes are copied
   * @return the snapshot
   */
  public static Snapshot of(byte[] bytes) {
    return new Snapshot(bytes.clone());
  }

  /**
   * A snapshot that was saved before. It is checked when it is restored or inspected.
   *
   * @param bytes those between position and limit are copied; both stay
   * @return the snapshot
   */
  public static Snapshot of(ByteBuffer bytes) {
    byte[] copy = new byte[bytes.remaining()];
    bytes.duplicate().get(copy);
    return new Snapshot(copy);
  }

  /**
   * The bytes.
   *
   * @return a copy
   */
  public byte[] toByteArray() {
    return bytes().clone();
  }

  /**
   * The bytes, without a copy.
   *
   * @return a read-only view
   */
  public ByteBuffer asByteBuffer() {
    return ByteBuffer.wrap(bytes()).asReadOnlyBuffer();
  }

  /**
   * What the snapshot holds. No model is needed.
   *
   * @param verify whether the checksum of every part is compared too
   * @return what it holds
   * @throws InfiniException as {@link #inspect(boolean, Task)}
   */
  public SnapshotInfo inspect(boolean verify) {
    return inspect(verify, null);
  }

  /**
   * What the snapshot holds. No model is needed.
   *
   * @param verify whether the checksum of every part is compared too
   * @param task stage "inspect", in bytes, where checksums are compared; may be null
   * @return what it holds
   * @throws InfiniException VERSION, CHECKSUM, FORMAT, TRUNCATED; CANCELLED
   */
  public SnapshotInfo inspect(boolean verify, Task task) {
    byte[] given = bytes();
    return inspect(task, (t, buffer, size) ->
        Native.infini_snapshot_json_buffer(given, verify ? VERIFY : 0, t, buffer, size));
  }

  /**
   * What the snapshot in a file holds. No model is needed.
   *
   * @param path the file
   * @param verify as in {@link #inspect(boolean)}
   * @return what it holds
   * @throws InfiniException as {@link #inspect(Path, boolean, Task)}
   */
  public static SnapshotInfo inspect(Path path, boolean verify) {
    return inspect(path, verify, null);
  }

  /**
   * What the snapshot in a file holds. No model is needed.
   *
   * @param path the file
   * @param verify as in {@link #inspect(boolean)}
   * @param task as in {@link #inspect(boolean, Task)}
   * @return what it holds
   * @throws InfiniException IO; else as {@link #inspect(boolean, Task)}
   */
  public static SnapshotInfo inspect(Path path, boolean verify, Task task) {
    String file = FileException.name(path);
    return inspect(task, (t, buffer, size) -> Native.infini_snapshot_json(file, verify ? VERIFY : 0, t, buffer, size));
  }

  private interface Inspection {
    int write(long task, byte[] buffer, long[] size);
  }

  private static SnapshotInfo inspect(Task task, Inspection call) {
    return SnapshotInfo.of(Task.with(task, t -> // with room at first, for each call reads the snapshot
        Utf8.decode(Utf8.bytes(1 << 16, (buffer, size) -> call.write(t, buffer, size)))));
  }

  /** Lets the bytes go. Closing again does nothing. */
  @Override public void close() {
    bytes = null;
  }

  private byte[] bytes() {
    byte[] given = bytes;
    if (given == null) throw new IllegalStateException("the snapshot is closed");
    return given;
  }

  int restoreInto(long session, long task) {
    return Native.infini_session_restore_buffer(session, bytes(), task);
  }

  int mergeInto(long session, double weight, long task) {
    return Native.infini_session_merge_buffer(session, bytes(), weight, task);
  }
}
