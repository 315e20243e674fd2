import infini.InfiniException;
import infini.Session;
import infini.Snapshot;
import infini.SnapshotInfo;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;
import java.util.stream.Stream;

/** Keeps memories in a folder, each as one snapshot that the command `infini` reads too. Its version is what it holds. */
final class FolderMemories implements MemoryStore {
  private static final String SUFFIX = ".snapshot";
  private final Path folder;
  private final ReentrantLock turn = new ReentrantLock(); // of this process, since locks of files are between processes
  private final FileChannel writer; // of a file that one process at a time has locked

  FolderMemories(String folder) throws IOException {
    this.folder = Files.createDirectories(Path.of(folder));
    writer = FileChannel.open(this.folder.resolve(".lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
  }

  @Override public Map<String, Listed> list() throws IOException {
    Map<String, Listed> all = new HashMap<>();
    try (Stream<Path> files = Files.list(folder)) {
      for (Path file : (Iterable<Path>) files::iterator) {
        String name = file.getFileName().toString();
        if (!name.endsWith(SUFFIX)) continue;
        String memory = name.substring(0, name.length() - SUFFIX.length());
        all.put(memory, new Listed(file.toFile().length(), () -> noteOf(memory)));
      }
    }
    return all;
  }

  private String noteOf(String name) {
    try {
      SnapshotInfo info = inspect(name);
      return info == null ? "" : Beside.of(info.note()).note();
    } catch (InfiniException e) {
      return ""; // of a file that is damaged there is no more to say
    }
  }

  private SnapshotInfo inspect(String name) {
    try {
      return Snapshot.inspect(fileOf(name), false);
    } catch (InfiniException e) {
      if (Files.notExists(fileOf(name))) return null;
      throw e;
    }
  }

  @Override public String version(String name) {
    SnapshotInfo info = inspect(name);
    return info == null ? null : info.json();
  }

  private interface Act<T> {
    T run() throws IOException;
  }

  /** Does what no other service of the folder may do meanwhile. */
  private <T> T alone(Act<T> act) throws IOException {
    turn.lock();
    try {
      FileLock lock = writer.lock(0, 1, false);
      try {
        return act.run();
      } finally {
        lock.release();
      }
    } finally {
      turn.unlock();
    }
  }

  @Override public Kept read(String name, Session session) throws IOException {
    return alone(() -> {
      SnapshotInfo info = inspect(name);
      if (info == null) return null;
      session.restore(fileOf(name), null);
      return new Kept(Beside.of(info.note()), info.json());
    });
  }

  @Override public String write(String name, Session session, Beside beside, String replaces) throws IOException {
    return alone(() -> {
      String kept = version(name);
      if (kept == null ? replaces != null : !kept.equals(replaces)) return null;
      session.save(fileOf(name), false, name, beside.toString(), null);
      return version(name);
    });
  }

  @Override public void delete(String name) throws IOException {
    alone(() -> Files.deleteIfExists(fileOf(name)));
  }

  private Path fileOf(String name) {
    return folder.resolve(name + SUFFIX);
  }
}
