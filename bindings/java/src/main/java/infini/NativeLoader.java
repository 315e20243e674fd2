package infini;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Locale;

/**
 * Loads the native side: from the folder of system property {@code infini.library.folder}, else from the library path,
 * else from this jar, unpacked to the folder of property {@code infini.unpack.folder} or to a temporary one.
 */
final class NativeLoader {
  private static final String[] FILES = {"libinfini.so.0", "libinfini_java.so"}; // the second loads the first

  private NativeLoader() {}

  static void load() {
    StringBuilder tried = new StringBuilder();
    String folder = System.getProperty("infini.library.folder");
    if (folder != null) {
      if (load(Path.of(folder), "infini.library.folder", tried)) return;
      throw failed(tried); // who names a folder wants that one
    }
    try {
      System.loadLibrary("infini_java");
      return;
    } catch (UnsatisfiedLinkError e) {
      tried.append("\n  java.library.path: ").append(e.getMessage());
    }
    if (!unpackAndLoad(tried)) throw failed(tried);
  }

  /** Refuses a library of another binary interface. */
  static void check(int wanted, int loaded) {
    if (wanted == loaded) return;
    throw new UnsatisfiedLinkError("infini: this package was made for libinfini.so." + wanted + ", but libinfini.so."
        + loaded + " was loaded: use the library and the package of the same version");
  }

  private static boolean unpackAndLoad(StringBuilder tried) {
    String platform = System.getProperty("os.name").toLowerCase(Locale.ROOT).replace(" ", "") + "-"
        + System.getProperty("os.arch").replace("amd64", "x86_64");
    String configured = System.getProperty("infini.unpack.folder");
    Path folder = configured == null ? null : Path.of(configured);
    try {
      folder = folder == null ? Files.createTempDirectory("infini") : Files.createDirectories(folder);
      for (String file : FILES) {
        String resource = "/native/" + platform + "/" + file;
        try (InputStream in = NativeLoader.class.getResourceAsStream(resource)) {
          if (in == null) throw new IOException("it has no " + resource);
          Path part = Files.createTempFile(folder, file, ".part"); // another process may be unpacking too
          Files.copy(in, part, StandardCopyOption.REPLACE_EXISTING);
          Files.move(part, folder.resolve(file), StandardCopyOption.ATOMIC_MOVE);
        }
      }
      return load(folder, "this jar, unpacked to", tried);
    } catch (IOException e) {
      tried.append("\n  this jar, unpacked to ").append(folder == null ? "a temporary folder" : folder).append(": ").append(e);
      return false;
    } finally {
      if (configured == null && folder != null) delete(folder); // what is mapped stays
    }
  }

  private static boolean load(Path folder, String what, StringBuilder tried) {
    Path file = folder.resolve(FILES[1]).toAbsolutePath();
    try {
      System.load(file.toString());
      return true;
    } catch (UnsatisfiedLinkError e) {
      tried.append("\n  ").append(what).append(' ').append(folder).append(": ").append(e.getMessage());
      return false;
    }
  }

  private static void delete(Path folder) {
    try {
      for (String file : FILES) Files.deleteIfExists(folder.resolve(file));
      Files.delete(folder);
    } catch (IOException e) {
      folder.toFile().deleteOnExit();
    }
  }

  private static UnsatisfiedLinkError failed(StringBuilder tried) {
    return new UnsatisfiedLinkError("infini: the native library could not be loaded. Tried:" + tried
        + "\nA missing libdnnl, libopenblas, libhwy, libpcre2, libutf8proc, libxxhash, libzstd or libgomp comes with the system's packages.");
  }
}
