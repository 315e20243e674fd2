import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/** Settings of the environment, and, where that does not name one, of the file INFINI_CONFIG: lines NAME=VALUE. */
final class Settings {
  private static final Map<String, String> VALUES = read();

  private Settings() {}

  private static Map<String, String> read() {
    Map<String, String> values = new HashMap<>();
    String path = System.getenv("INFINI_CONFIG");
    if (path != null && !path.isEmpty()) {
      try {
        int number = 0;
        for (String line : Files.readAllLines(Path.of(path))) {
          ++number;
          int equals = line.indexOf('=');
          if (line.isBlank() || line.strip().startsWith("#")) continue;
          if (equals < 0) throw bad(path + ": line " + number + " is not NAME=VALUE");
          values.put(line.substring(0, equals).strip(), line.substring(equals + 1).strip());
        }
      } catch (IOException e) {
        throw bad("INFINI_CONFIG names " + path + ", which cannot be read: " + e.getMessage());
      }
    }
    System.getenv().forEach((name, value) -> {
      if (name.startsWith("INFINI_")) values.put(name, value);
    });
    return values;
  }

  /** Ends the service, which has not begun. */
  private static RuntimeException bad(String what) {
    System.err.println(what);
    Runtime.getRuntime().halt(1);
    return new IllegalArgumentException(what);
  }

  /** A text; null: it is not given. */
  static String text(String name) {
    String value = VALUES.get(name);
    return value == null || value.isEmpty() ? null : value;
  }

  /** Values with commas between. */
  static List<String> list(String name) {
    return text(name) == null ? List.of() : Arrays.stream(text(name).split(",")).map(String::strip).filter(value -> !value.isEmpty()).toList();
  }

  /** The store that INFINI_STORE names, else a folder of the user's for the model's file; null: none. */
  static String store(Path model) {
    String named = text("INFINI_STORE");
    if (named != null) return named.equals("none") ? null : named;
    String folder = environment("STATE_DIRECTORY").split(":", 2)[0]; // of systemd
    if (!folder.isEmpty()) return folder;
    String state = environment("XDG_STATE_HOME"), home = environment("HOME");
    if (state.isEmpty() && home.isEmpty()) return null;
    Path states = state.isEmpty() ? Path.of(home, ".local", "state") : Path.of(state);
    return states.resolve("infini").resolve(model.getFileName().toString().replaceFirst("\\.gguf$", "")).toString();
  }

  private static String environment(String name) {
    return Objects.requireNonNullElse(System.getenv(name), "");
  }

  static long number(String name, long otherwise) {
    String value = text(name);
    if (value == null) return otherwise;
    if (!value.matches("[0-9]{1,18}")) throw bad(name + " is \"" + value + "\", but must be a whole number, at least 0");
    return Long.parseLong(value);
  }
}
