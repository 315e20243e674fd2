import infini.Session;
import java.io.IOException;
import java.sql.SQLException;
import java.util.Map;

/**
 * Where memories are kept between the requests that name them. Several services may share one: who writes says which version
 * the writing goes on from, so that nobody's words are lost silently.
 */
interface MemoryStore {
  /**
   * A memory that is kept.
   *
   * @param known is kept with it: the digest of the messages that it has read
   * @param version by which it is told from what it was before
   */
  record Kept(String known, String version) {}

  /** The memories that are kept, by name, and the bytes of their snapshots. */
  Map<String, Long> list() throws IOException, SQLException;

  /** The version of a memory that is kept; null: none is. */
  String version(String name) throws IOException, SQLException;

  /** Puts a session where the memory was kept; null where none is, and the session is as it was. */
  Kept read(String name, Session session) throws IOException, SQLException;

  /**
   * Keeps a memory.
   *
   * @param replaces the version that it goes on from; null: none was kept
   * @return the new version; null: another is kept, and nothing was written
   */
  String write(String name, Session session, String known, String replaces) throws IOException, SQLException;

  /** Deletes a memory, if it is kept. */
  void delete(String name) throws IOException, SQLException;

  /** The one that INFINI_STORE names. */
  static MemoryStore open(String named) throws IOException, SQLException {
    String kind = named.substring(0, Math.max(named.indexOf(':'), 0));
    return switch (kind) {
      case "sqlite" -> new DatabaseMemories("jdbc:" + named);
      case "postgres", "postgresql" -> DatabaseMemories.postgres(named);
      default -> new FolderMemories(named);
    };
  }
}
