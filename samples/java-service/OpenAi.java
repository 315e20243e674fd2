import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import infini.CancelledException;
import infini.Options;
import infini.Session;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;

/**
 * The interface that OpenAI's clients speak, under /v1, and the memories that its requests may name: then only messages
 * that are new are read, and the rest is remembered.
 */
final class OpenAi {
  /** Fields that the service does not know, and the values with which they ask for nothing. */
  private static final Map<String, List<String>> UNSUPPORTED = Map.ofEntries(
      Map.entry("n", List.of("1")), Map.entry("best_of", List.of("1")), Map.entry("echo", List.of("false")),
      Map.entry("suffix", List.of("\"\"")), Map.entry("logprobs", List.of("false")), Map.entry("top_logprobs", List.of("0")),
      Map.entry("tools", List.of("[]")), Map.entry("tool_choice", List.of("\"none\"", "\"auto\"")),
      Map.entry("functions", List.of("[]")), Map.entry("function_call", List.of("\"none\"", "\"auto\"")),
      Map.entry("response_format", List.of("{\"type\":\"text\"}")), Map.entry("audio", List.of()),
      Map.entry("prediction", List.of()), Map.entry("modalities", List.of("[\"text\"]")));

  static final byte[] BEAT = ":\n\n".getBytes(StandardCharsets.US_ASCII); // between events, while no text comes

  private final String model; // its name
  private final Sessions sessions;
  private final Work work;
  private final long maxTokens; // that a request may have written
  private final SecureRandom random = new SecureRandom();

  OpenAi(String model, Sessions sessions, Work work, long maxTokens) {
    this.model = model;
    this.work = work;
    this.sessions = sessions;
    this.maxTokens = maxTokens;
  }

  static Map<String, ?> error(Refusal refusal) {
    String type = switch (refusal.code) {
      case 401 -> "authentication_error";
      case 429 -> "rate_limit_error";
      default -> refusal.code >= 500 ? "server_error" : "invalid_request_error";
    };
    return Map.of("error", ordered("message", refusal.getMessage(), "type", type, "param", null,
        "code", refusal.name.toLowerCase(Locale.ROOT)));
  }

  void serve(Connection connection) throws IOException {
    String path = connection.path().substring("/v1".length());
    boolean reads = connection.method().equals("GET");
    switch (path) {
      case "/models", "/memories" -> {
        if (!reads) throw Refusal.wrongMethod();
      }
      case "/chat/completions", "/completions", "/embeddings" -> {
        if (!connection.method().equals("POST")) throw Refusal.wrongMethod();
      }
      default -> throw Refusal.noPath();
    }
    if (path.equals("/models")) {
      connection.answer(200, ordered("object", "list", "data", List.of(
          ordered("id", model, "object", "model", "created", 0, "owned_by", "infini"))));
    } else if (path.equals("/memories")) {
      List<Object> data = new ArrayList<>();
      sessions.memories().forEach((name, bytes) -> data.add(sessions.describeMemory(name, bytes)));
      connection.answer(200, ordered("object", "list", "data", data));
    } else {
      Fields fields = new Fields(Requests.objectOf(Requests.textOf(connection.body(Requests.MAX_MESSAGES))));
      if (path.equals("/embeddings")) embed(connection, fields);
      else complete(connection, fields, path.equals("/chat/completions"));
    }
  }

  private void complete(Connection connection, Fields fields, boolean chat) throws IOException {
    String id = newId();
    try (Options options = optionsOf(fields)) {
      boolean stream = fields.flag("stream");
      boolean usage = fields.within("stream_options").flag("include_usage");
      String memory = Objects.requireNonNullElse(fields.text("memory"),
          Objects.requireNonNullElse(connection.header("infini-memory"), ""));
      List<JsonElement> messages = chat ? fields.list("messages") : List.of();
      if (chat && messages.isEmpty()) throw Refusal.invalid("\"messages\" must be a list of messages");
      List<String> prompts = chat ? List.of("") : fields.texts("prompt");
      if (prompts.size() != 1) throw Refusal.invalid("\"prompt\" must be one text");
      Reply reply = new Reply(connection, chat, stream, usage, id, model);
      with(connection, memory, id, (client, call) -> {
        client.session.setOptions(options);
        long begun = client.session.position();
        reply.write(client.session, call, work, () -> {
          if (!chat) {
            client.session.startGeneration();
            work.readText(connection, client.session, prompts.get(0), call);
            return;
          }
          JsonArray fresh = new JsonArray();
          String digest = newMessages(messages, client.known, fresh);
          String written = Requests.JSON.toJson(fresh);
          work.readChat(connection, client.session, written, call);
          client.known = digest;
        }, () -> {
          if (Work.positionOf(client.session, begun) == begun) return; // nothing came
          if (memory.isEmpty()) return;
          sessions.keep(memory, client);
          connection.kept = true;
        });
      });
    }
  }

  private void embed(Connection connection, Fields fields) throws IOException {
    List<String> texts = fields.texts("input");
    if (texts.isEmpty()) throw Refusal.invalid("\"input\" must be a text or a list of texts");
    String format = Objects.requireNonNullElse(fields.text("encoding_format"), "float");
    if (!format.equals("float") && !format.equals("base64"))
      throw Refusal.invalid("\"encoding_format\" must be \"float\" or \"base64\"");
    fields.refuse(Map.of("dimensions", List.of()));
    with(connection, "", "embeddings-" + newId(), (client, call) -> {
      List<Object> data = new ArrayList<>();
      long tokens = 0;
      for (String text : texts) {
        client.session.reset();
        work.readText(connection, client.session, text, call);
        if (client.session.position() == 0) throw Refusal.invalid("text " + data.size() + " of \"input\" has no tokens");
        float[] numbers = client.session.embedding();
        tokens += client.session.position();
        data.add(ordered("object", "embedding", "index", data.size(),
            "embedding", format.equals("float") ? numbers : packed(numbers)));
      }
      connection.answer(200, ordered("object", "list", "data", data, "model", model,
          "usage", ordered("prompt_tokens", tokens, "total_tokens", tokens)));
    });
  }

  private static String packed(float[] numbers) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * numbers.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(numbers);
    return Base64.getEncoder().encodeToString(bytes.array());
  }

  /** Has its turn with the memory of that name or, where it is empty, with a session for this request alone. */
  private void with(Connection connection, String memory, String request, Sessions.Use use) throws IOException {
    try (Client.Call call = new Client.Call()) {
      connection.whenLeft(() -> call.end(Refusal.left()));
      if (!memory.isEmpty()) { // it comes first, so that who waits for it holds nobody up
        sessions.inTurn(memory, true, call, (client, c) ->
            work.act(connection, c, () -> use.run(client, c)));
        return;
      }
      work.act(connection, call, () -> {
        Client client = sessions.add(request, sessions.newSession());
        try {
          client.inTurn(call, c -> use.run(client, c));
        } finally {
          sessions.remove(request);
        }
      });
    }
  }

  /** A request's options, as the library knows them. What is not given is as OpenAI's interface has it. */
  private Options optionsOf(Fields fields) {
    fields.refuse(UNSUPPORTED);
    long most = maxTokens;
    for (String name : List.of("max_tokens", "max_completion_tokens")) {
      long asked = fields.integer(name, most);
      if (asked < 0) throw Refusal.invalid("\"" + name + "\" is " + asked + ", but must be at least 0");
      most = Math.min(most, asked);
    }
    Fields biases = fields.within("logit_bias");
    List<String> list = new ArrayList<>();
    for (String token : biases.names()) list.add(token + ":" + biases.number(token, 0));
    Options options = new Options();
    try {
      return options.set("temperature", fields.number("temperature", 1)).set("top_p", fields.number("top_p", 1))
          .set("presence_penalty", fields.number("presence_penalty", 0))
          .set("frequency_penalty", fields.number("frequency_penalty", 0))
          .set("seed", fields.integer("seed", random.nextInt() & 0xffffffffL)).set("max_tokens", most)
          .set("stop", fields.texts("stop")).set("logit_bias", String.join(",", list)).set("unknown_text", "skip");
    } catch (RuntimeException e) {
      options.close();
      throw e;
    }
  }

  /**
   * Collects the messages behind the ones that were read, which `known` tells: all, where it knows none of them. Returns what
   * is known when they are read: the digest of all messages and, for clients that drop old ones, that of the user's last one.
   * Replies do not count: those that the memory gave are its own, whatever the client has kept of them.
   */
  private static String newMessages(List<JsonElement> messages, String known, JsonArray fresh) {
    String[] parts = known.split(":", 2);
    String knownLast = parts.length > 1 ? parts[1] : "";
    MessageDigest sum = sha256();
    String digest = "", last = "";
    int begin = 0, beginLast = 0;
    for (int i = 0; i < messages.size(); ++i) {
      JsonObject message = messages.get(i) instanceof JsonObject object ? object : new JsonObject(); // the library says what is wrong
      String role = message.get("role") instanceof JsonPrimitive given && given.isString() ? given.getAsString() : "";
      String content = Canonical.of(message.get("content"));
      if (!role.equals("assistant")) {
        sum.update((role + "\0" + content + "\0").getBytes(StandardCharsets.UTF_8));
        digest = soFar(sum);
      }
      if (!digest.isEmpty() && digest.equals(parts[0])) begin = i + 1;
      if (role.equals("user")) last = HexFormat.of().formatHex(digest(content), 0, 8);
      boolean reply = role.equals("assistant") && i > 0 && beginLast == i;
      if (role.equals("user") && last.equals(knownLast) || reply) beginLast = i + 1;
    }
    if (begin == 0) begin = beginLast;
    if (begin == messages.size()) --begin; // asked once more
    messages.subList(begin, messages.size()).forEach(fresh::add);
    return digest + ":" + last;
  }

  private static String soFar(MessageDigest sum) {
    try {
      return HexFormat.of().formatHex(((MessageDigest) sum.clone()).digest());
    } catch (CloneNotSupportedException e) {
      throw new AssertionError("Java's own can be cloned", e);
    }
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every Java has SHA-256", e);
    }
  }

  static byte[] digest(String text) {
    return sha256().digest(text.getBytes(StandardCharsets.UTF_8));
  }

  private String newId() {
    byte[] id = new byte[12];
    random.nextBytes(id);
    return HexFormat.of().formatHex(id);
  }

  /** A JSON object of names and values in turn. */
  private static Map<String, Object> ordered(Object... pairs) {
    Map<String, Object> object = new LinkedHashMap<>();
    for (int i = 0; i < pairs.length; i += 2) object.put((String) pairs[i], pairs[i + 1]);
    return object;
  }

  /** The answer to one request for a completion. */
  private record Reply(Connection connection, boolean chat, boolean stream, boolean usage, String id, String model, long created) {
    Reply(Connection connection, boolean chat, boolean stream, boolean usage, String id, String model) {
      this(connection, chat, stream, usage, id, model, System.currentTimeMillis() / 1000);
    }

    /** Reads what was said, sends what the model writes, and keeps all before it says that it has ended. What fails before
        anything was sent is thrown. */
    void write(Session session, Client.Call call, Work work, Runnable read, Runnable keep) throws IOException {
      long before = session.position();
      long begin = before;
      StringBuilder whole = new StringBuilder();
      String reason;
      try {
        try {
          read.run();
          begin = session.position();
          reason = work.run(connection, session, call, piece -> {
            if (!stream) {
              whole.append(piece);
              return;
            }
            if (!connection.answered()) begin();
            if (piece == null) connection.write(BEAT);
            else send(choice(piece, null));
          }, stream);
        } finally {
          keep.run();
        }
        if (reason.equals("cancelled") && !connection.answered()) throw call.reason == null ? Refusal.left() : call.reason;
      } catch (CancelledException | IllegalStateException e) { // a session that was closed is cancelled, too
        if (!connection.answered()) throw e;
        reason = "cancelled";
      } catch (RuntimeException | OutOfMemoryError e) {
        if (!connection.answered()) throw e;
        event(Requests.JSON.toJson(error(Refusal.of(e))));
        return;
      }
      if (reason.equals("cancelled")) { // clients know no such reason
        event(Requests.JSON.toJson(error(call.reason == null ? Refusal.left() : call.reason)));
        return;
      }
      long end = session.position();
      String finish = reason.equals("max_tokens") || reason.equals("max_time") ? "length" : "stop";
      Map<String, Object> used = ordered("prompt_tokens", begin - before, "completion_tokens", end - begin,
          "total_tokens", end - before);
      if (!stream) {
        Map<String, Object> answer = object(List.of(choice(whole.toString(), finish)));
        answer.put("usage", used);
        connection.answer(200, answer);
        return;
      }
      if (!connection.answered()) begin();
      send(choice("", finish));
      if (usage) {
        Map<String, Object> last = object(List.of());
        last.put("usage", used);
        event(Requests.JSON.toJson(last));
      }
      event("[DONE]");
    }

    private void begin() throws IOException {
      connection.begin(200, "Content-Type: text/event-stream", "Cache-Control: no-store");
      if (!chat) return;
      Map<String, Object> opening = choice("", null);
      opening.put("delta", ordered("role", "assistant", "content", ""));
      send(opening);
    }

    private Map<String, Object> choice(String text, String finish) {
      Map<String, Object> choice = ordered("index", 0, "finish_reason", finish, "logprobs", null);
      if (!chat) choice.put("text", text);
      else if (stream) choice.put("delta", finish == null ? ordered("content", text) : ordered());
      else choice.put("message", ordered("role", "assistant", "content", text, "refusal", null));
      return choice;
    }

    private Map<String, Object> object(List<?> choices) {
      return ordered("id", (chat ? "chatcmpl-" : "cmpl-") + id,
          "object", !chat ? "text_completion" : stream ? "chat.completion.chunk" : "chat.completion",
          "created", created, "model", model, "choices", choices);
    }

    private void send(Map<String, Object> choice) throws IOException {
      event(Requests.JSON.toJson(object(List.of(choice))));
    }

    private void event(String data) throws IOException {
      connection.write(("data: " + data + "\n\n").getBytes(StandardCharsets.UTF_8));
    }
  }

  /** The fields of a request. Absent and null are the same; fields that nothing here asks for do not count. */
  record Fields(JsonObject object) {
    Iterable<String> names() {
      return object.keySet();
    }

    private JsonElement get(String name) {
      JsonElement value = object.get(name);
      return value instanceof JsonNull ? null : value;
    }

    double number(String name, double otherwise) {
      JsonElement value = get(name);
      if (value == null) return otherwise;
      if (value instanceof JsonPrimitive given && given.isNumber()) return given.getAsDouble();
      throw bad(name, "a number");
    }

    long integer(String name, long otherwise) {
      JsonElement value = get(name);
      if (value == null) return otherwise;
      if (value instanceof JsonPrimitive given && given.isNumber() && given.getAsString().matches("-?[0-9]{1,19}")
          && given.getAsBigInteger().bitLength() < 64)
        return given.getAsLong();
      throw bad(name, "a whole number");
    }

    boolean flag(String name) {
      JsonElement value = get(name);
      if (value == null) return false;
      if (value instanceof JsonPrimitive given && given.isBoolean()) return given.getAsBoolean();
      throw bad(name, "true or false");
    }

    String text(String name) {
      JsonElement value = get(name);
      if (value == null) return null;
      if (value instanceof JsonPrimitive given && given.isString()) return given.getAsString();
      throw bad(name, "a text");
    }

    List<JsonElement> list(String name) {
      JsonElement value = get(name);
      if (value == null) return List.of();
      if (value instanceof JsonArray given) return given.asList();
      throw bad(name, "a list");
    }

    /** A text, or a list of texts. */
    List<String> texts(String name) {
      if (get(name) instanceof JsonPrimitive) return List.of(text(name));
      List<String> texts = new ArrayList<>();
      for (JsonElement value : list(name)) {
        if (!(value instanceof JsonPrimitive given) || !given.isString()) throw bad(name, "a text or a list of texts");
        texts.add(given.getAsString());
      }
      return texts;
    }

    Fields within(String name) {
      JsonElement value = get(name);
      if (value == null) return new Fields(new JsonObject());
      if (value instanceof JsonObject given) return new Fields(given);
      throw bad(name, "an object");
    }

    /** Refuses what the service does not do. */
    void refuse(Map<String, List<String>> unsupported) {
      unsupported.forEach((name, harmless) -> {
        JsonElement value = get(name);
        if (value != null && !harmless.contains(value.toString()))
          throw Refusal.invalid("\"" + name + "\" is not supported here");
      });
    }

    private static Refusal bad(String name, String wanted) {
      return Refusal.invalid("\"" + name + "\" must be " + wanted);
    }
  }
}
