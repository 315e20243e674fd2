package infini;

import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystems;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/**
 * Something is wrong with a file, or with a snapshot: it cannot be read or written (status IO, NO_SPACE), it is damaged
 * (FORMAT, TRUNCATED, CHECKSUM), or it belongs elsewhere (MODEL_MISMATCH, VERSION). The cause is a
 * {@link NoSuchFileException} where the file, or the folder to write to, is missing, and an {@link AccessDeniedException}
 * where it may not be used.
 */
public final class FileException extends InfiniException {
  private static final long serialVersionUID = 1L;

  FileException(int code, int systemError, String message) {
    super(code, message);
    switch (systemError) { // Linux's numbers
      case 2 -> initCause(new NoSuchFileException(null, null, message)); // ENOENT
      case 1, 13 -> initCause(new AccessDeniedException(null, null, message)); // EPERM, EACCES
      default -> {}
    }
  }

  /** A path as the library wants it. */
  static String name(Path path) {
    if (path.getFileSystem() != FileSystems.getDefault())
      throw new IllegalArgumentException(path + " is not of the system's own files: copy it there, or read its bytes");
    return path.toString();
  }
}
