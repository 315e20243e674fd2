import infini.Session;
import java.io.IOException;
import java.sql.SQLException;
import java.util.Map;
import java.util.function.Supplier;

/**
 * Where memories are kept between the requests that name them. Several services may share one: who writes says which version
 * the writing goes on from, so that nobody's words are lost silently.
 */
interface MemoryStore {
  /**
   * A memory that is kept.
   *
   * @param beside is kept with it
   * @param version by which it is told from what it was before
   */
  record Kept(Beside beside, String version) {}

  /**
   * The text that is kept beside a snapshot: the digest and, behind a space, the note.
   *
   * @param known the digest of the messages that the memory has read
   * @param note its owner's
   */
  record Beside(String known, String note) {
    static final Beside NOTHING = new Beside("", "");

    static Beside of(String text) {
      int end = text.indexOf(' ');
      return end < 0 ? new Beside(text, "") : new Beside(text.substring(0, end), text.substring(end + 1));
    }

    @Override public String toString() {
      return note.isEmpty() ? known : known + ' ' + note;
    }
  }

  /** What the list says of one: the bytes of its snapshot, and its note, for which a file may have to be read. */
  record Listed(long bytes, Supplier<String> note) {}

  /** The memories that are kept, by name. */
  Map<String, Listed> list() throws IOException, SQLException;

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
  String write(String name, Session session, Beside beside, String replaces) throws IOException, SQLException;

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
