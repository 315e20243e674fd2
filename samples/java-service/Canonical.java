import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;

/** The one form of what a message says, which the services in all languages digest, however a client has written its JSON. */
final class Canonical {
  private Canonical() {}

  static String of(JsonElement content) {
    if (content == null || content instanceof JsonNull) return "n";
    if (content instanceof JsonPrimitive given && given.isString()) return "s" + given.getAsString();
    StringBuilder text = new StringBuilder("j");
    write(content, text);
    return text.toString();
  }

  private static void write(JsonElement value, StringBuilder to) {
    if (value instanceof JsonArray list) {
      String between = "[";
      for (JsonElement each : list) {
        to.append(between);
        write(each, to);
        between = ",";
      }
      to.append(list.isEmpty() ? "[]" : "]");
    } else if (value instanceof JsonObject object) {
      String between = "{";
      for (String name : object.keySet()) {
        quote(name, to.append(between));
        write(object.get(name), to.append(':'));
        between = ",";
      }
      to.append(object.size() == 0 ? "{}" : "}");
    } else if (value instanceof JsonPrimitive given && given.isString()) {
      quote(given.getAsString(), to);
    } else {
      to.append(value instanceof JsonNull ? "null" : value.getAsString());
    }
  }

  private static void quote(String text, StringBuilder to) {
    to.append('"');
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') to.append('\\').append(c);
      else if (c < ' ') to.append(String.format("\\u%04x", (int) c));
      else to.append(c);
    }
    to.append('"');
  }
}
