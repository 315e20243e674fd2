import infini.Session;
import infini.Snapshot;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;

/**
 * Keeps memories in a table of SQLite or PostgreSQL, which the services in the other languages read too. Each call has a connection
 * of its own.
 */
final class DatabaseMemories implements MemoryStore {
  private static final String CREATE = "CREATE TABLE IF NOT EXISTS infini_store ("
      + "name TEXT PRIMARY KEY, version TEXT NOT NULL, known TEXT NOT NULL, snapshot BYTEA NOT NULL)";
  private static final String INSERT =
      "INSERT INTO infini_store (version, known, snapshot, name) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING";
  private static final String UPDATE =
      "UPDATE infini_store SET version = ?, known = ?, snapshot = ? WHERE name = ? AND version = ?";

  private final String url; // of JDBC
  private final Properties properties;

  DatabaseMemories(String url) throws SQLException {
    this(url, new Properties());
  }

  private DatabaseMemories(String url, Properties properties) throws SQLException {
    this.url = url;
    this.properties = properties;
    with(CREATE, PreparedStatement::execute); // which fails where another service makes it at the same moment
  }

  /** postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE */
  static MemoryStore postgres(String named) throws SQLException {
    URI given = URI.create(named);
    Properties properties = new Properties();
    if (given.getRawUserInfo() != null) {
      String[] user = given.getRawUserInfo().split(":", 2);
      properties.setProperty("user", URLDecoder.decode(user[0], StandardCharsets.UTF_8));
      if (user.length > 1) properties.setProperty("password", URLDecoder.decode(user[1], StandardCharsets.UTF_8));
    }
    String query = given.getRawQuery() == null ? "" : "?" + given.getRawQuery();
    String port = given.getPort() < 0 ? "" : ":" + given.getPort();
    return new DatabaseMemories("jdbc:postgresql://" + given.getHost() + port + given.getRawPath() + query, properties);
  }

  private interface Act<T> {
    T run(PreparedStatement statement) throws SQLException;
  }

  /** Does it once more where it failed, as where the database hangs up; no statement has another effect the second time. */
  private <T> T with(String text, Act<T> act, Object... values) throws SQLException {
    try {
      return once(text, act, values);
    } catch (SQLException e) {
      return once(text, act, values);
    }
  }

  private <T> T once(String text, Act<T> act, Object... values) throws SQLException {
    try (Connection connection = DriverManager.getConnection(url, properties);
        PreparedStatement statement = connection.prepareStatement(text)) {
      for (int i = 0; i < values.length; ++i) {
        if (values[i] instanceof byte[] bytes) statement.setBytes(i + 1, bytes);
        else statement.setString(i + 1, (String) values[i]);
      }
      return act.run(statement);
    }
  }

  @Override public Map<String, Listed> list() throws SQLException {
    return with("SELECT name, length(snapshot), known FROM infini_store", statement -> {
      Map<String, Listed> all = new HashMap<>();
      try (ResultSet rows = statement.executeQuery()) {
        while (rows.next()) {
          String note = Beside.of(rows.getString(3)).note();
          all.put(rows.getString(1), new Listed(rows.getLong(2), () -> note));
        }
      }
      return all;
    });
  }

  @Override public String version(String name) throws SQLException {
    return with("SELECT version FROM infini_store WHERE name = ?", statement -> {
      try (ResultSet rows = statement.executeQuery()) {
        return rows.next() ? rows.getString(1) : null;
      }
    }, name);
  }

  @Override public Kept read(String name, Session session) throws SQLException {
    return with("SELECT known, version, snapshot FROM infini_store WHERE name = ?", statement -> {
      try (ResultSet rows = statement.executeQuery()) {
        if (!rows.next()) return null;
        session.restore(Snapshot.of(rows.getBytes(3)), null);
        return new Kept(Beside.of(rows.getString(1)), rows.getString(2));
      }
    }, name);
  }

  @Override public String write(String name, Session session, Beside beside, String replaces) throws SQLException {
    String version = UUID.randomUUID().toString();
    String text = beside.toString();
    byte[] snapshot = session.snapshot(false, name, text, null).toByteArray();
    int changed = replaces == null ? with(INSERT, PreparedStatement::executeUpdate, version, text, snapshot, name)
        : with(UPDATE, PreparedStatement::executeUpdate, version, text, snapshot, name, replaces);
    return changed == 1 || version.equals(version(name)) ? version : null; // the latter where it was done twice
  }

  @Override public void delete(String name) throws SQLException {
    with("DELETE FROM infini_store WHERE name = ?", PreparedStatement::execute, name);
  }
}
