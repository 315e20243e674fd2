import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonPrimitive;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Snapshot;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * Serves sessions of one model over HTTP, with the JDK's server. samples/SERVICES.md describes its calls, which the services
 * in the other languages have too.
 *
 * <pre>INFINI_TOKEN=secret java -cp infini-0.1.0.jar:gson.jar Service.java MODEL.gguf [ADDRESS]</pre>
 */
final class Service {
  /** A session, used by one request at a time. */
  private record Client(Session session, Semaphore turn) {}

  /** An answer other than success. */
  private static final class Refusal extends RuntimeException {
    private static final long serialVersionUID = 1L;
    final int code;
    final String name;

    Refusal(int code, String name, String message) {
      super(message);
      this.code = code;
      this.name = name;
    }
  }

  private static final Gson JSON = new Gson();
  private static final long MAX_OPTIONS = 1 << 16; // bytes

  private final Model model;
  private final byte[] token;
  private final long maxBody = number("INFINI_MAX_BODY", 1L << 30); // bytes of a request
  private final long maxSessions = number("INFINI_MAX_SESSIONS", 100);
  private final Map<String, Client> sessions = new ConcurrentHashMap<>();
  private final SecureRandom random = new SecureRandom();

  private Service(Model model, String token) {
    this.model = model;
    this.token = ("Bearer " + token).getBytes(StandardCharsets.UTF_8);
  }

  public static void main(String[] args) throws IOException {
    String token = System.getenv("INFINI_TOKEN");
    if (args.length < 1 || token == null || token.isEmpty()) {
      System.err.println("usage: INFINI_TOKEN=secret java Service.java MODEL.gguf [ADDRESS]");
      System.exit(1);
    }
    String[] address = (args.length > 1 ? args[1] : "127.0.0.1:8080").split(":");
    Service service = new Service(Model.open(Path.of(args[0])), token);
    System.setProperty("sun.net.httpserver.nodelay", "true"); // events are small and shall not wait for one another
    HttpServer server = HttpServer.create(new InetSocketAddress(address[0], Integer.parseInt(address[1])), 0);
    server.createContext("/", service::handle);
    server.setExecutor(executor());
    server.start();
    System.out.println("listening on " + address[0] + ":" + server.getAddress().getPort());
  }

  /** A virtual thread for each request where the JDK has them (21), else threads of a pool. */
  private static ExecutorService executor() {
    try {
      return (ExecutorService) MethodHandles.publicLookup().findStatic(Executors.class, "newVirtualThreadPerTaskExecutor",
          MethodType.methodType(ExecutorService.class)).invoke();
    } catch (Throwable e) {
      return Executors.newCachedThreadPool();
    }
  }

  private static long number(String variable, long otherwise) {
    String value = System.getenv(variable);
    return value == null ? otherwise : Long.parseLong(value);
  }

  private void handle(HttpExchange exchange) throws IOException {
    try (exchange) {
      try {
        serve(exchange);
      } catch (RuntimeException e) {
        if (exchange.getResponseCode() >= 0) return; // the answer has begun
        Refusal refusal = refusalOf(e);
        answer(exchange, refusal.code, bodyOf(refusal));
      }
    }
  }

  private void serve(HttpExchange exchange) throws IOException {
    String given = exchange.getRequestHeaders().getFirst("Authorization");
    if (given == null || !MessageDigest.isEqual(given.getBytes(StandardCharsets.UTF_8), token))
      throw new Refusal(401, "UNAUTHORIZED", "the Authorization header must be: Bearer TOKEN");
    String[] path = exchange.getRequestURI().getPath().substring(1).split("/");
    String method = exchange.getRequestMethod();
    boolean creates = method.equals("POST") && path.length == 1 && path[0].equals("sessions");
    long limit = creates ? Math.min(MAX_OPTIONS, maxBody) : maxBody;
    String length = exchange.getRequestHeaders().getFirst("Content-Length");
    if (length != null && Long.parseLong(length) > limit) throw tooLarge(limit);
    InputStream body = new Limited(exchange.getRequestBody(), limit);
    if (creates) {
      answer(exchange, 201, Map.of("id", create(body.readAllBytes())));
      return;
    }
    if (path.length < 2 || path.length > 3 || !path[0].equals("sessions"))
      throw new Refusal(404, "NOT_FOUND", "there is no such path");
    Client client = sessions.get(path[1]);
    if (client == null) throw new Refusal(404, "NOT_FOUND", "there is no such session");
    if (!hasTurn(client)) throw new Refusal(409, "BUSY", "another request uses the session");
    try {
      Session session = client.session;
      switch (method + " " + (path.length == 3 ? path[2] : "")) {
        case "DELETE " -> {
          sessions.remove(path[1]);
          session.close();
          exchange.sendResponseHeaders(204, -1);
        }
        case "POST feed" -> {
          session.feed(body, null);
          answer(exchange, 200, Map.of("position", session.position()));
        }
        case "POST generate" -> generate(exchange, session);
        case "GET snapshot" -> {
          byte[] snapshot = session.snapshot().toByteArray();
          exchange.getResponseHeaders().set("Content-Type", "application/octet-stream");
          exchange.sendResponseHeaders(200, snapshot.length);
          exchange.getResponseBody().write(snapshot);
        }
        case "PUT snapshot" -> {
          session.restore(Snapshot.of(body.readAllBytes()));
          answer(exchange, 200, Map.of("position", session.position()));
        }
        default -> throw new Refusal(405, "METHOD_NOT_ALLOWED", "the path has no such method");
      }
    } finally {
      client.turn.release();
    }
  }

  /** Waits a moment: the request before may have answered and not quite ended. */
  private static boolean hasTurn(Client client) {
    try {
      return client.turn.tryAcquire(1, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      return false;
    }
  }

  private String create(byte[] body) {
    try (Options options = optionsOf(new String(body, StandardCharsets.UTF_8))) {
      Session session = model.newSession(options);
      byte[] id = new byte[16];
      random.nextBytes(id);
      String name = HexFormat.of().formatHex(id);
      sessions.put(name, new Client(session, new Semaphore(1)));
      if (sessions.size() > maxSessions) {
        sessions.remove(name);
        session.close();
        throw new Refusal(429, "TOO_MANY_SESSIONS", "the service has as many sessions as it may have; delete one");
      }
      return name;
    }
  }

  /** Sends the text of a run as server-sent events. It ends when the client goes away, and the session may go on. */
  private void generate(HttpExchange exchange, Session session) throws IOException {
    String first = session.nextText(); // what is refused is refused before the answer begins
    exchange.getResponseHeaders().set("Content-Type", "text/event-stream");
    exchange.getResponseHeaders().set("Cache-Control", "no-store");
    exchange.sendResponseHeaders(200, 0);
    OutputStream out = exchange.getResponseBody();
    try {
      for (String text = first; text != null; text = session.nextText()) send(out, "text", Map.of("text", text));
      send(out, "end", Map.of("stop_reason", session.stopReason()));
    } catch (RuntimeException e) {
      send(out, "error", bodyOf(refusalOf(e)));
    }
  }

  private static void send(OutputStream out, String name, Map<String, ?> data) throws IOException {
    out.write(("event: " + name + "\ndata: " + JSON.toJson(data) + "\n\n").getBytes(StandardCharsets.UTF_8));
    out.flush();
  }

  private static void answer(HttpExchange exchange, int code, Map<String, ?> data) throws IOException {
    byte[] body = (JSON.toJson(data) + "\n").getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(code, body.length);
    exchange.getResponseBody().write(body);
  }

  private static Map<String, String> bodyOf(Refusal refusal) {
    return Map.of("error", refusal.name, "message", refusal.getMessage());
  }

  private static Refusal tooLarge(long limit) {
    return new Refusal(413, "TOO_LARGE", "the body is larger than " + limit + " bytes");
  }

  private static Refusal refusalOf(RuntimeException e) {
    if (e instanceof Refusal refusal) return refusal;
    if (e instanceof IllegalStateException) return new Refusal(404, "NOT_FOUND", "there is no such session");
    if (!(e instanceof InfiniException failed)) return new Refusal(500, "INTERNAL", e.toString());
    int code = switch (failed.status()) {
      case INVALID_ARGUMENT, UNKNOWN_OPTION -> 400;
      case STATE, CANCELLED -> 409;
      case MODEL_MISMATCH, VERSION, CHECKSUM, FORMAT, TRUNCATED -> 422;
      default -> 500;
    };
    return new Refusal(code, failed.status().name(), failed.getMessage());
  }

  /** A body that is refused once it is larger than it may be. */
  private static final class Limited extends FilterInputStream {
    private final long limit;
    private long taken;

    Limited(InputStream in, long limit) {
      super(in);
      this.limit = limit;
    }

    @Override public int read() throws IOException {
      return count(super.read(), 1);
    }

    @Override public int read(byte[] bytes, int offset, int length) throws IOException {
      int n = super.read(bytes, offset, length);
      return count(n, n);
    }

    private int count(int result, int n) {
      if (result >= 0 && (taken += n) > limit) throw tooLarge(limit);
      return result;
    }
  }

  /** The options of a body, a JSON object such as {"max_tokens": 100}; empty: the defaults. */
  private static Options optionsOf(String json) {
    Options options = new Options();
    try {
      if (json.isBlank()) return options;
      JsonObject object = JSON.getAdapter(JsonObject.class).fromJson(json);
      for (Map.Entry<String, JsonElement> option : object.entrySet()) {
        JsonPrimitive value = option.getValue().getAsJsonPrimitive();
        if (value.isString()) options.set(option.getKey(), value.getAsString());
        else if (value.isBoolean()) options.set(option.getKey(), value.getAsBoolean() ? 1 : 0);
        else if (value.getAsString().matches("-?[0-9]{1,18}")) options.set(option.getKey(), value.getAsLong());
        else options.set(option.getKey(), value.getAsDouble());
      }
      return options;
    } catch (IOException | JsonParseException | IllegalStateException | IllegalArgumentException | StackOverflowError e) {
      options.close();
      throw new Refusal(400, "INVALID_ARGUMENT", "the body is not a JSON object of options: " + e.getMessage());
    } catch (InfiniException e) {
      options.close();
      throw e;
    }
  }
}
