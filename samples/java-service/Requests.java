import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonPrimitive;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import infini.Options;
import java.io.IOException;
import java.io.InputStream;
import java.io.Reader;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** What is in the body of a request. */
final class Requests {
  static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
  static final long MAX_OPTIONS = 1 << 16; // bytes
  static final long MAX_MESSAGES = 1 << 20; // bytes
  private static final int MAX_DEPTH = 64; // of lists and objects in a body, one within another
  /** What a client may ask for at most. */
  private static final Map<String, Long> BOUNDS = Map.of("threads", (long) Runtime.getRuntime().availableProcessors(),
      "chunk", 512L, "checkpoints", 16L, "compress", 9L);

  private Requests() {}

  static String textOf(InputStream body) throws IOException {
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body.readAllBytes())).toString();
    } catch (CharacterCodingException e) {
      throw Refusal.invalid("the body is not UTF-8");
    }
  }

  /** Reads one JSON object, and nothing behind it. */
  static JsonObject objectOf(String json) {
    Strict text = new Strict(json);
    try (JsonReader reader = new JsonReader(text)) {
      JsonElement value = valueOf(reader, 1);
      if (reader.peek() == JsonToken.END_DOCUMENT && value instanceof JsonObject object) return object;
      throw Refusal.invalid("the body is not a JSON object");
    } catch (IOException | JsonParseException | IllegalStateException | NumberFormatException e) {
      int before = json.substring(0, Math.max(text.read - 1, 0)).getBytes(StandardCharsets.UTF_8).length;
      throw Refusal.invalid("the body is not JSON from byte " + (before + 1) + " on");
    }
  }

  /** Reads a value, and refuses what JSON allows, but nobody means: keys that stand twice in an object, values nested too deep. */
  private static JsonElement valueOf(JsonReader reader, int depth) throws IOException {
    JsonToken kind = reader.peek();
    if (kind != JsonToken.BEGIN_OBJECT && kind != JsonToken.BEGIN_ARRAY) {
      JsonElement value = JSON.getAdapter(JsonElement.class).read(reader);
      if (kind == JsonToken.STRING) checkPairs(value.getAsString());
      return value;
    }
    if (depth > MAX_DEPTH) throw Refusal.invalid("the body is nested deeper than " + MAX_DEPTH);
    if (kind == JsonToken.BEGIN_ARRAY) {
      JsonArray list = new JsonArray();
      reader.beginArray();
      while (reader.hasNext()) list.add(valueOf(reader, depth + 1));
      reader.endArray();
      return list;
    }
    JsonObject object = new JsonObject();
    reader.beginObject();
    while (reader.hasNext()) {
      String name = reader.nextName();
      checkPairs(name);
      if (object.has(name)) throw Refusal.invalid("'" + name + "' stands twice in the body");
      object.add(name, valueOf(reader, depth + 1));
    }
    reader.endObject();
    return object;
  }

  private static void checkPairs(String text) {
    if (!StandardCharsets.UTF_8.newEncoder().canEncode(text))
      throw Refusal.invalid("a text of the body has half of a surrogate pair");
  }

  /** Gives Gson one character at a time, so that it is known how far it has read, and none that it takes but JSON does not have. */
  private static final class Strict extends Reader {
    private final String json;
    private int read; // characters
    private boolean quoted; // within a text
    private boolean escaped; // behind a backslash

    Strict(String json) {
      this.json = json;
    }

    @Override public int read(char[] to, int offset, int length) throws IOException {
      if (read == json.length()) return -1;
      char c = json.charAt(read++);
      boolean exponent = c == 'E' && read > 1 && Character.isDigit(json.charAt(read - 2));
      if (quoted ? c < ' ' || escaped && "\"\\/bfnrtu".indexOf(c) < 0 : c > '~' || c >= 'A' && c <= 'Z' && !exponent)
        throw new MalformedJsonException("this is not JSON");
      if (c == '"' && !escaped) quoted = !quoted;
      escaped = quoted && !escaped && c == '\\';
      to[offset] = c;
      return 1;
    }

    @Override public void close() {}
  }

  static String messages(InputStream body) throws IOException {
    JsonObject object = objectOf(textOf(body));
    if (object.size() != 1 || !(object.get("messages") instanceof JsonArray messages))
      throw Refusal.invalid("the body must be {\"messages\": [...]}");
    return JSON.toJson(messages);
  }

  /** The options of a body, a JSON object such as {"max_tokens": 100}; empty: the defaults. */
  static Options optionsOf(String json) {
    Options options = new Options().set("unknown_text", "skip");
    try {
      if (json.isBlank()) return options;
      for (Map.Entry<String, JsonElement> option : objectOf(json).entrySet())
        set(options, option.getKey(), option.getValue());
      return options;
    } catch (RuntimeException e) {
      options.close();
      throw e;
    }
  }

  private static void set(Options options, String name, JsonElement value) {
    if (value instanceof JsonArray list && name.equals("stop")) {
      List<String> texts = new ArrayList<>();
      for (JsonElement text : list) {
        if (!(text instanceof JsonPrimitive one) || !one.isString()) throw Refusal.invalid("option 'stop' takes texts");
        texts.add(one.getAsString());
      }
      options.set(name, texts);
    } else if (!(value instanceof JsonPrimitive given)) {
      throw Refusal.invalid("option '" + name + "' is neither a number, nor a text, nor true or false");
    } else if (given.isString()) {
      options.set(name, given.getAsString());
    } else if (given.isBoolean()) {
      options.set(name, given.getAsBoolean());
    } else if (given.getAsString().matches("-?[0-9]{1,19}") && given.getAsBigInteger().bitLength() < 64) {
      if (given.getAsLong() > BOUNDS.getOrDefault(name, Long.MAX_VALUE))
        throw Refusal.invalid("option '" + name + "' may be at most " + BOUNDS.get(name) + " here");
      options.set(name, given.getAsLong());
    } else {
      options.set(name, given.getAsDouble());
    }
  }
}
