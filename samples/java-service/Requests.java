import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonPrimitive;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import infini.Options;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringReader;
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
  /** What a client may ask for at most. */
  private static final Map<String, Long> BOUNDS = Map.of("threads", (long) Runtime.getRuntime().availableProcessors(),
      "block", 512L, "checkpoints", 16L, "compress", 9L);

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
    try (JsonReader reader = new JsonReader(new StringReader(json))) { // strict, unlike Gson's other ways
      if (JSON.getAdapter(JsonElement.class).read(reader) instanceof JsonObject object
          && reader.peek() == JsonToken.END_DOCUMENT) return object;
      throw Refusal.invalid("the body is not one JSON object");
    } catch (IOException | JsonParseException | IllegalStateException | NumberFormatException | StackOverflowError e) {
      throw Refusal.invalid("the body is not one JSON object: " + e.getMessage());
    }
  }

  static String messages(InputStream body) throws IOException {
    JsonObject object = objectOf(textOf(body));
    if (object.size() != 1 || !(object.get("messages") instanceof JsonArray messages))
      throw Refusal.invalid("the body must be {\"messages\": [...]}");
    try {
      return JSON.toJson(messages);
    } catch (StackOverflowError e) {
      throw Refusal.invalid("the messages are nested too deep");
    }
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
    } else if (given.getAsString().matches("-?[0-9]{1,18}")) {
      if (given.getAsLong() > BOUNDS.getOrDefault(name, Long.MAX_VALUE))
        throw Refusal.invalid("option '" + name + "' may be at most " + BOUNDS.get(name) + " here");
      options.set(name, given.getAsLong());
    } else {
      options.set(name, given.getAsDouble());
    }
  }
}
