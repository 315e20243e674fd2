package infini;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A JSON object that the library wrote, with its members as Java's own; and texts on their way into JSON. */
final class Json {
  private final Map<String, Object> members; // String, Long, Double, Boolean, List, Map or null

  private Json(Map<String, Object> members) {
    this.members = members;
  }

  /** Reads an object. */
  static Json object(String json) {
    return of(value(json));
  }

  /** Reads any value: String, Long, Double (also of an integer that no long holds), Boolean, List, Map, null. */
  static Object value(String json) {
    Reader reader = new Reader(json);
    Object value = reader.value();
    if (reader.peek() != Reader.END) throw reader.error();
    return value;
  }

  @SuppressWarnings("unchecked") // the reader makes maps of texts alone
  static Json of(Object object) {
    return new Json((Map<String, Object>) object);
  }

  /** All members, in order; none of the map can be changed. */
  Map<String, Object> all() {
    return Collections.unmodifiableMap(members);
  }

  boolean has(String name) {
    return members.get(name) != null;
  }

  /** null where it is null or absent. */
  String text(String name) {
    return (String) members.get(name);
  }

  /** false where it is null or absent. */
  boolean flag(String name) {
    return Boolean.TRUE.equals(members.get(name));
  }

  /** NaN where it is null or absent. */
  double real(String name) {
    return members.get(name) instanceof Number number ? number.doubleValue() : Double.NaN;
  }

  /** 0 where it is null or absent. */
  long whole(String name) {
    return members.get(name) instanceof Number number ? number.longValue() : 0;
  }

  /** 0 where it is null or absent. */
  int small(String name) {
    return Math.toIntExact(whole(name));
  }

  /** An empty list where it is null or absent. */
  List<?> list(String name) {
    return members.get(name) instanceof List<?> list ? list : List.of();
  }

  /** An object without members where it is null or absent. */
  Json part(String name) {
    return members.get(name) instanceof Map<?, ?> map ? of(map) : new Json(Map.of());
  }

  /** The text as a JSON string. */
  static String quote(String text) {
    StringBuilder out = new StringBuilder(text.length() + 2).append('"');
    for (int i = 0; i < text.length(); ++i) {
      char c = text.charAt(i);
      if (c == '"' || c == '\\') out.append('\\').append(c);
      else if (c < ' ') out.append("\\u00").append(Character.forDigit(c >> 4, 16)).append(Character.forDigit(c & 15, 16));
      else out.append(c);
    }
    return out.append('"').toString();
  }

  private static final class Reader {
    static final char END = '\0'; // which does not stand in JSON

    private final String json;
    private int at;

    Reader(String json) {
      this.json = json;
    }

    IllegalArgumentException error() {
      return new IllegalArgumentException("the library's JSON has an error at character " + at);
    }

    /** The next character that is no space. */
    char peek() {
      while (at < json.length() && json.charAt(at) <= ' ') ++at;
      return at < json.length() ? json.charAt(at) : END;
    }

    private boolean takes(char c) {
      if (peek() != c) return false;
      ++at;
      return true;
    }

    private void require(char c) {
      if (!takes(c)) throw error();
    }

    Object value() {
      switch (peek()) {
        case '{' -> {
          return members();
        }
        case '[' -> {
          return elements();
        }
        case '"' -> {
          return text();
        }
        default -> {
          int begin = at;
          while (at < json.length() && ",]} \n\t\r".indexOf(json.charAt(at)) < 0) ++at;
          return scalar(json.substring(begin, at));
        }
      }
    }

    private Map<String, Object> members() {
      Map<String, Object> members = new LinkedHashMap<>();
      require('{');
      if (takes('}')) return members;
      do {
        peek();
        String name = text();
        require(':');
        members.put(name, value());
      } while (takes(','));
      require('}');
      return members;
    }

    private List<Object> elements() {
      List<Object> elements = new ArrayList<>();
      require('[');
      if (takes(']')) return elements;
      do elements.add(value());
      while (takes(','));
      require(']');
      return elements;
    }

    private Object scalar(String word) {
      switch (word) {
        case "null":
          return null;
        case "true":
          return true;
        case "false":
          return false;
        default:
          try {
            return word.matches("-?[0-9]{1,18}") ? (Object) Long.parseLong(word) : (Object) Double.parseDouble(word);
          } catch (NumberFormatException e) {
            throw error();
          }
      }
    }

    private String text() {
      require('"');
      StringBuilder out = new StringBuilder();
      while (true) {
        if (at >= json.length()) throw error();
        char c = json.charAt(at++);
        if (c == '"') return out.toString();
        out.append(c == '\\' ? escaped() : c);
      }
    }

    private char escaped() {
      if (at >= json.length()) throw error();
      char c = json.charAt(at++);
      int plain = "nrtbf".indexOf(c);
      if (plain >= 0) return "\n\r\t\b\f".charAt(plain);
      if (c != 'u') return c; // a quote or a slash of either kind
      if (at + 4 > json.length()) throw error();
      try {
        return (char) Integer.parseInt(json.substring(at, at += 4), 16);
      } catch (NumberFormatException e) {
        throw error();
      }
    }
  }
}
