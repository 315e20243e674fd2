package infini;

import static java.nio.file.LinkOption.NOFOLLOW_LINKS;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.nio.file.attribute.UserPrincipal;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Loads the native side: from the folder of system property {@code infini.library.path}, else from the library path, else from
 * this jar. What is unpacked lies in a folder of this process alone, which nobody else may read or write, is compared with what
 * was packed, and is deleted as soon as it is loaded; but on Windows, which deletes no library in use, it stays until another
 * process unpacks to the same place, a day later at the earliest.
 */
final class NativeLoader {
  private static final String OS = System.getProperty("os.name").toLowerCase(Locale.ROOT).replaceAll("^windows.*", "windows");
  private static final String[] FILES = OS.equals("windows") // the second stands on the first
      ? new String[] {"infini.dll", "infini_java.dll"}
      : new String[] {"libinfini.so.0", "libinfini_java.so"};

  private static final String PREFIX = "infini-unpacked-"; // of folders that are ours to sweep

  private NativeLoader() {}

  static void load() {
    List<String> tried = new ArrayList<>();
    String path = System.getProperty("infini.library.path");
    if (path != null) {
      if (load(Path.of(path), "infini.library.path", tried)) return;
      throw failed(tried); // who names a folder wants that one
    }
    try {
      System.loadLibrary("infini_java");
      return;
    } catch (UnsatisfiedLinkError e) {
      tried.add("java.library.path: " + explained(e.getMessage()));
    }
    if (!unpackAndLoad(tried)) throw failed(tried);
  }

  /** Refuses a library of another binary interface. */
  static void check(int wanted, int loaded) {
    if (wanted == loaded) return;
    throw new UnsatisfiedLinkError("infini: this package was made for libinfini.so." + wanted + ", but libinfini.so."
        + loaded + " was loaded: use the library and the package of the same version");
  }

  private static boolean unpackAndLoad(List<String> tried) {
    String platform = OS.replace(" ", "") + "-" + System.getProperty("os.arch").replace("amd64", "x86_64");
    String from = "/native/" + platform + "/";
    String sums;
    try (InputStream in = NativeLoader.class.getResourceAsStream(from + "SHA256SUMS")) {
      if (in == null) {
        tried.add("this jar: it holds no libraries for " + platform);
        return false;
      }
      sums = new String(in.readAllBytes(), StandardCharsets.US_ASCII);
    } catch (IOException e) {
      tried.add("this jar: " + e);
      return false;
    }
    for (Path place : places()) {
      Path folder = null;
      try {
        Files.createDirectories(place);
        folder = privateFolder(place);
        sweep(place, folder);
        for (String file : FILES) unpack(from + file, folder.resolve(file), sums);
        if (load(folder, "this jar, unpacked to", tried)) return true;
      } catch (IOException e) {
        tried.add("this jar, unpacked to " + place + ": " + e);
      } finally {
        if (folder != null) deleteNowOrAtExit(folder); // what is mapped stays
      }
    }
    return false;
  }

  /** Folders in which to unpack, the best one first: temporary folders may be full, or may not hold programs. */
  private static List<Path> places() {
    String configured = System.getProperty("infini.unpack.folder");
    if (configured != null) return List.of(Path.of(configured));
    List<Path> places = new ArrayList<>(List.of(Path.of(System.getProperty("java.io.tmpdir"))));
    String runtime = System.getenv("XDG_RUNTIME_DIR"), cache = System.getenv("XDG_CACHE_HOME");
    if (runtime != null && !runtime.isEmpty()) places.add(Path.of(runtime));
    places.add(cache != null && !cache.isEmpty() ? Path.of(cache) : Path.of(System.getProperty("user.home"), ".cache"));
    return places;
  }

  private static Path privateFolder(Path place) throws IOException {
    if (!place.getFileSystem().supportedFileAttributeViews().contains("posix")) return Files.createTempDirectory(place, PREFIX);
    Set<PosixFilePermission> mine = PosixFilePermissions.fromString("rwx------");
    return Files.createTempDirectory(place, PREFIX, PosixFilePermissions.asFileAttribute(mine));
  }

  private static void unpack(String resource, Path file, String sums) throws IOException {
    try (InputStream in = NativeLoader.class.getResourceAsStream(resource)) {
      if (in == null) throw new IOException("the jar has no " + resource);
      Files.copy(in, file);
    }
    MessageDigest digest;
    try (InputStream in = new DigestInputStream(Files.newInputStream(file), digest = MessageDigest.getInstance("SHA-256"))) {
      byte[] buffer = new byte[1 << 20];
      while (in.read(buffer) >= 0) continue;
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e); // every Java has it
    }
    if (!sums.contains(HexFormat.of().formatHex(digest.digest()) + "  " + file.getFileName() + "\n"))
      throw new IOException("what lies in " + file + " is not what the jar holds");
  }

  private static boolean load(Path folder, String what, List<String> tried) {
    try {
      Path library = folder.resolve(FILES[0]).toAbsolutePath(); // by its path, so that no other of its name is taken
      if (Files.exists(library)) System.load(library.toString());
      System.load(folder.resolve(FILES[1]).toAbsolutePath().toString());
      return true;
    } catch (UnsatisfiedLinkError e) {
      tried.add(what + ' ' + folder + ": " + explained(e.getMessage()));
      return false;
    }
  }

  /** Deletes what this user's processes left that could not: those on Windows, and those that were killed as they unpacked. */
  private static void sweep(Path place, Path own) {
    Instant yesterday = Instant.now().minus(Duration.ofDays(1)); // what is younger may be about to be loaded
    try (DirectoryStream<Path> folders = Files.newDirectoryStream(place, PREFIX + "*")) {
      UserPrincipal user = Files.getOwner(own);
      for (Path folder : folders) {
        try {
          boolean old = Files.getLastModifiedTime(folder, NOFOLLOW_LINKS).toInstant().isBefore(yesterday);
          if (old && Files.isDirectory(folder, NOFOLLOW_LINKS) && Files.getOwner(folder, NOFOLLOW_LINKS).equals(user)) delete(folder);
        } catch (IOException e) {
          continue; // it is in use, or another process sweeps it
        }
      }
    } catch (IOException | DirectoryIteratorException e) {
      return; // the next process may
    }
  }

  private static void deleteNowOrAtExit(Path folder) {
    try {
      delete(folder);
    } catch (IOException e) {
      folder.toFile().deleteOnExit();
    }
  }

  /** A library in use ends this at the first file, and nothing is gone. */
  private static void delete(Path folder) throws IOException {
    for (String file : FILES) Files.deleteIfExists(folder.resolve(file));
    Files.delete(folder);
  }

  private static final Pattern MISSING =
      Pattern.compile("(?:Error loading shared library )?(lib(?!infini)[^\\s/:]+): (?:cannot open shared object file|No such file)");
  private static final Pattern TOO_OLD = Pattern.compile("version [`'](GLIBC_[\\d.]+)' not found");

  /** The system's words, and what they mean where that is not plain. */
  private static String explained(String words) {
    Matcher missing = MISSING.matcher(words), old = TOO_OLD.matcher(words);
    if (missing.find())
      return words + "\n    The system has no " + missing.group(1)
          + ": install it, or use a package of the build `portable`, which needs the C library alone.";
    if (old.find())
      return words + "\n    The system's C library is older than " + old.group(1) + ", with which this package was built.";
    if (words.contains("failed to map segment"))
      return words + "\n    That folder may not hold programs (noexec): name another in infini.unpack.folder.";
    return words;
  }

  private static UnsatisfiedLinkError failed(List<String> tried) {
    return new UnsatisfiedLinkError("infini: the native library could not be loaded. Tried:\n  " + String.join("\n  ", tried));
  }
}
