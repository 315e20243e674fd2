import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonPrimitive;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import infini.CancelledException;
import infini.InfiniException;
import infini.Model;
import infini.ModelInfo;
import infini.Options;
import infini.Session;
import infini.Snapshot;
import infini.Task;
import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.StringReader;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.net.StandardSocketOptions;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Serves sessions of one model over HTTP. samples/SERVICES.md describes its calls, which the services in the other
 * languages have too.
 *
 * <pre>INFINI_TOKEN=secret java -cp infini-0.1.0.jar:gson.jar Service.java MODEL.gguf [ADDRESS]</pre>
 */
final class Service {
  private static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
  private static final long MAX_OPTIONS = 1 << 16; // bytes
  private static final long MAX_MESSAGES = 1 << 20; // bytes
  private static final int MAX_CONNECTIONS = 1000;
  /** What a client may ask for at most. */
  private static final Map<String, Long> BOUNDS = Map.of("threads", (long) Runtime.getRuntime().availableProcessors(),
      "block", 512L, "checkpoints", 16L, "compress", 9L);

  private final Model model;
  private final byte[] token;
  private final long maxBody = number("INFINI_MAX_BODY", 1L << 30); // bytes of a request
  private final long maxSessions = number("INFINI_MAX_SESSIONS", 100);
  private final Map<String, Client> sessions = new ConcurrentHashMap<>();
  private final SecureRandom random = new SecureRandom();
  private final ExecutorService executor = executor();
  private final Semaphore connections = new Semaphore(MAX_CONNECTIONS);
  private final Semaphore calls = new Semaphore(Integer.MAX_VALUE); // requests that are being served have one each
  private volatile boolean ending;

  private Service(Model model, String token) {
    this.model = model;
    this.token = ("Bearer " + token).getBytes(StandardCharsets.UTF_8);
  }

  /** A session, used by one request at a time. */
  private static final class Client {
    final Session session;
    final Semaphore turn = new Semaphore(1);
    volatile Call call; // that uses the session; null: none does

    Client(Session session) {
      this.session = session;
    }

    void cancel() {
      Call running = call;
      if (running != null) running.end(new Refusal(409, "CANCELLED", "the call was cancelled"));
    }
  }

  /** What a request does with a session. */
  private static final class Call implements AutoCloseable {
    final Task task = new Task();
    private volatile Ahead text; // that is fed; null: none is
    private volatile Refusal reason; // for which it was ended

    /** Ends it within a block or a token, whether something comes in or out, or not. */
    void end(Refusal why) {
      if (reason == null) reason = why;
      Ahead reading = text;
      if (reading != null) reading.fail(why);
      try {
        task.cancel();
      } catch (IllegalStateException e) {
        // it has ended by itself
      }
    }

    @Override public void close() {
      task.close();
    }
  }

  public static void main(String[] args) throws IOException {
    String token = System.getenv("INFINI_TOKEN");
    if (args.length < 1 || token == null || token.isEmpty()) {
      System.err.println("usage: INFINI_TOKEN=secret java Service.java MODEL.gguf [ADDRESS]");
      System.exit(1);
    }
    String address = args.length > 1 ? args[1] : "127.0.0.1:8080";
    int colon = address.lastIndexOf(':');
    String host = address.substring(0, Math.max(colon, 0));
    Service service = new Service(Model.open(Path.of(args[0])), token);
    ModelInfo info = service.model.info();
    if (!info.trainedMemory())
      System.out.println(args[0] + " has no trained memory: it sees only its window of " + info.window()
          + " tokens. `infini train " + args[0] + " --adapt` teaches it one.");
    try (ServerSocket listener = new ServerSocket()) {
      listener.bind(new InetSocketAddress(host, Integer.parseInt(address.substring(colon + 1))), 128);
      Runtime.getRuntime().addShutdownHook(new Thread(() -> service.end(listener)));
      System.out.println("listening on " + host + ":" + listener.getLocalPort());
      service.accept(listener);
    }
  }

  private static long number(String variable, long otherwise) {
    String value = System.getenv(variable);
    return value == null ? otherwise : Long.parseLong(value);
  }

  /** A virtual thread for each task where the JDK has them (21), else threads of a pool. */
  private static ExecutorService executor() {
    try {
      return (ExecutorService) MethodHandles.publicLookup().findStatic(Executors.class,
          "newVirtualThreadPerTaskExecutor", MethodType.methodType(ExecutorService.class)).invoke();
    } catch (Throwable e) {
      return Executors.newCachedThreadPool();
    }
  }

  private void accept(ServerSocket listener) throws IOException {
    while (true) {
      Socket socket;
      try {
        socket = listener.accept();
      } catch (IOException e) {
        if (ending) return;
        throw e;
      }
      if (!connections.tryAcquire()) {
        socket.close();
        continue;
      }
      executor.execute(() -> {
        try (Connection connection = new Connection(socket, executor)) {
          handle(connection);
        } catch (IOException e) {
          // the client is gone
        } finally {
          connections.release();
        }
      });
    }
  }

  /** On SIGTERM and Ctrl-C: running calls are cancelled, and have a moment to say so. */
  private void end(ServerSocket listener) {
    ending = true;
    try {
      listener.close();
      sessions.values().forEach(Client::cancel);
      calls.tryAcquire(Integer.MAX_VALUE, 3, TimeUnit.SECONDS);
    } catch (IOException | InterruptedException e) {
      // it ends all the same
    }
  }

  private void handle(Connection connection) throws IOException {
    boolean counted = false;
    try {
      if (!connection.readHead()) return;
      calls.acquireUninterruptibly();
      counted = true;
      serve(connection);
    } catch (RuntimeException e) {
      if (connection.answered()) return;
      Refusal refusal = refusalOf(e);
      connection.answer(refusal.code, bodyOf(refusal));
    } finally {
      if (counted) calls.release();
    }
  }

  private void serve(Connection connection) throws IOException {
    String given = connection.header("authorization");
    if (given == null || !MessageDigest.isEqual(given.getBytes(StandardCharsets.UTF_8), token))
      throw new Refusal(401, "UNAUTHORIZED", "the Authorization header must be: Bearer TOKEN");
    String[] path = connection.path().substring(1).split("/", -1);
    String method = connection.method();
    if (path.length == 1 && path[0].equals("model")) {
      if (!method.equals("GET")) throw wrongMethod();
      connection.answer(200, "application/json", (model.info().json() + "\n").getBytes(StandardCharsets.UTF_8));
    } else if (path.length == 1 && path[0].equals("sessions")) {
      switch (method) {
        case "GET" -> connection.answer(200, list());
        case "POST" -> connection.answer(201, Map.of("id", create(connection.body(Math.min(MAX_OPTIONS, maxBody)))));
        default -> throw wrongMethod();
      }
    } else if (path.length < 2 || path.length > 3 || !path[0].equals("sessions")) {
      throw new Refusal(404, "NOT_FOUND", "there is no such path");
    } else {
      Client client = sessions.get(path[1]);
      if (client == null) throw new Refusal(404, "NOT_FOUND", "there is no such session");
      switch (method + " " + (path.length == 3 ? path[2] : "")) {
        case "DELETE " -> {
          sessions.remove(path[1]);
          client.cancel();
          client.session.close();
          connection.answer(204, null);
        }
        case "POST cancel" -> {
          client.cancel();
          connection.answer(204, null);
        }
        case "POST feed" -> inTurn(client, call -> feed(connection, client.session, call));
        case "POST generate" -> inTurn(client, call -> {
          client.session.logits(); // what is refused is refused before the answer begins
          connection.whenLeft(() -> call.end(left()));
          generate(connection, client.session, call);
        });
        case "POST chat" -> {
          String messages = messages(connection.body(Math.min(MAX_MESSAGES, maxBody)));
          inTurn(client, call -> {
            connection.whenLeft(() -> call.end(left()));
            client.session.chatJson(messages, call.task);
            generate(connection, client.session, call);
          });
        }
        case "GET snapshot" -> inTurn(client, call -> {
          byte[] snapshot = client.session.snapshot().toByteArray();
          connection.answer(200, "application/octet-stream", snapshot);
        });
        case "PUT snapshot" -> {
          Snapshot snapshot = Snapshot.of(connection.body(maxBody).readAllBytes());
          inTurn(client, call -> {
            client.session.restore(snapshot);
            connection.answer(200, Map.of("position", client.session.position()));
          });
        }
        default -> throw wrongMethod();
      }
    }
  }

  private interface Work {
    void run(Call call) throws IOException;
  }

  /** Runs what uses a session, where no other request does. */
  private void inTurn(Client client, Work work) throws IOException {
    try {
      if (!client.turn.tryAcquire(1, TimeUnit.SECONDS)) // the request before may have answered and not quite ended
        throw new Refusal(409, "BUSY", "another request uses the session");
    } catch (InterruptedException e) {
      throw new Refusal(409, "BUSY", "the service is interrupted");
    }
    Call call = new Call();
    try (call) {
      client.call = call;
      if (ending) client.cancel();
      work.run(call);
    } catch (CancelledException e) {
      throw call.reason == null ? e : call.reason;
    } catch (IllegalStateException e) { // it was deleted
      throw call.reason == null ? new Refusal(404, "NOT_FOUND", "there is no such session") : call.reason;
    } finally {
      client.call = null;
      client.turn.release();
    }
  }

  private static Refusal left() {
    return new Refusal(409, "CANCELLED", "the client has left");
  }

  private static Refusal wrongMethod() {
    return new Refusal(405, "METHOD_NOT_ALLOWED", "the path has no such method");
  }

  private List<Map<String, Object>> list() {
    List<Map<String, Object>> all = new ArrayList<>();
    sessions.forEach((id, client) -> {
      try {
        all.add(Map.of("id", id, "position", client.session.position(), "busy", client.call != null));
      } catch (IllegalStateException e) {
        // it was deleted
      }
    });
    return all;
  }

  private String create(InputStream body) throws IOException {
    try (Options options = optionsOf(textOf(body))) {
      Session session = model.newSession(options);
      byte[] id = new byte[16];
      random.nextBytes(id);
      String name = HexFormat.of().formatHex(id);
      sessions.put(name, new Client(session));
      if (sessions.size() > maxSessions) {
        sessions.remove(name);
        session.close();
        throw new Refusal(429, "TOO_MANY_SESSIONS", "the service has as many sessions as it may have; delete one");
      }
      return name;
    }
  }

  private void feed(Connection connection, Session session, Call call) throws IOException {
    InputStream body = connection.body(maxBody);
    try (Ahead text = new Ahead()) {
      call.text = text;
      if (call.reason != null) throw call.reason;
      connection.meanwhile(() -> {
        try {
          text.fill(body);
        } catch (Refusal | IOException e) {
          call.end(e instanceof Refusal refusal ? refusal : left());
        }
        connection.awaitLeaving();
        call.end(left());
      });
      long before = session.info().unknownBytes();
      session.feed(text, call.task);
      connection.answer(200, Map.of("position", session.position(), "skipped", session.info().unknownBytes() - before));
    }
  }

  /** Sends the text of a run as server-sent events. The session may go on after it, however it ends. */
  private static void generate(Connection connection, Session session, Call call) throws IOException {
    connection.begin(200, "Content-Type: text/event-stream", "Cache-Control: no-store");
    try {
      for (String text : session.texts(call.task)) send(connection, "text", Map.of("text", text));
      send(connection, "end", Map.of("stop_reason", session.stopReason()));
    } catch (CancelledException | IllegalStateException e) { // a session that was closed is cancelled, too
      send(connection, "end", Map.of("stop_reason", "cancelled"));
    } catch (RuntimeException e) {
      send(connection, "error", bodyOf(refusalOf(e)));
    }
  }

  private static void send(Connection connection, String name, Map<String, ?> data) throws IOException {
    connection.write(("event: " + name + "\ndata: " + JSON.toJson(data) + "\n\n").getBytes(StandardCharsets.UTF_8));
  }

  private static Map<String, String> bodyOf(Refusal refusal) {
    return Map.of("error", refusal.name, "message", refusal.getMessage());
  }

  private static Refusal refusalOf(RuntimeException e) {
    if (e instanceof Refusal refusal) return refusal;
    if (e instanceof IllegalArgumentException) return invalid(e.getMessage());
    if (!(e instanceof InfiniException failed)) return new Refusal(500, "INTERNAL", e.toString());
    int code = switch (failed.status()) {
      case INVALID_ARGUMENT, UNKNOWN_OPTION, UNSUPPORTED -> 400;
      case STATE, CANCELLED -> 409;
      case MODEL_MISMATCH, VERSION, CHECKSUM, FORMAT, TRUNCATED -> 422;
      default -> 500;
    };
    return new Refusal(code, failed.status().name(), failed.getMessage());
  }

  private static Refusal invalid(String message) {
    return new Refusal(400, "INVALID_ARGUMENT", message);
  }

  // What is in a body.

  private static String textOf(InputStream body) throws IOException {
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body.readAllBytes())).toString();
    } catch (CharacterCodingException e) {
      throw invalid("the body is not UTF-8");
    }
  }

  /** Reads one JSON object, and nothing behind it. */
  private static JsonObject objectOf(String json) {
    try (JsonReader reader = new JsonReader(new StringReader(json))) { // strict, unlike Gson's other ways
      if (JSON.getAdapter(JsonElement.class).read(reader) instanceof JsonObject object
          && reader.peek() == JsonToken.END_DOCUMENT) return object;
      throw invalid("the body is not one JSON object");
    } catch (IOException | JsonParseException | IllegalStateException | NumberFormatException | StackOverflowError e) {
      throw invalid("the body is not one JSON object: " + e.getMessage());
    }
  }

  private static String messages(InputStream body) throws IOException {
    JsonObject object = objectOf(textOf(body));
    if (object.size() != 1 || !(object.get("messages") instanceof JsonArray messages))
      throw invalid("the body must be {\"messages\": [...]}");
    try {
      return JSON.toJson(messages);
    } catch (StackOverflowError e) {
      throw invalid("the messages are nested too deep");
    }
  }

  /** The options of a body, a JSON object such as {"max_tokens": 100}; empty: the defaults. */
  private static Options optionsOf(String json) {
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
        if (!(text instanceof JsonPrimitive one) || !one.isString()) throw invalid("option 'stop' takes texts");
        texts.add(one.getAsString());
      }
      options.set(name, texts);
    } else if (!(value instanceof JsonPrimitive given)) {
      throw invalid("option '" + name + "' is neither a number, nor a text, nor true or false");
    } else if (given.isString()) {
      options.set(name, given.getAsString());
    } else if (given.isBoolean()) {
      options.set(name, given.getAsBoolean());
    } else if (given.getAsString().matches("-?[0-9]{1,18}")) {
      if (given.getAsLong() > BOUNDS.getOrDefault(name, Long.MAX_VALUE))
        throw invalid("option '" + name + "' may be at most " + BOUNDS.get(name) + " here");
      options.set(name, given.getAsLong());
    } else {
      options.set(name, given.getAsDouble());
    }
  }

  /** An answer other than success. */
  private static final class Refusal extends RuntimeException {
    private static final long serialVersionUID = 1L;
    final int code;
    final String name;

    Refusal(int code, String name, String message) {
      super(message, null, false, false);
      this.code = code;
      this.name = name;
    }
  }

  /** A text that is read ahead of the model, so that it shows when the client leaves. */
  private static final class Ahead extends InputStream {
    private static final int MOST = 8 << 20; // bytes

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    private final ArrayDeque<byte[]> pieces = new ArrayDeque<>();
    private int taken; // of the first piece
    private int held; // bytes of all pieces
    private boolean ended;
    private Refusal failure;

    /** Takes all of a body in, on a thread of its own; returns early where nobody reads any more. */
    void fill(InputStream body) throws IOException {
      byte[] buffer = new byte[1 << 16];
      while (true) {
        int n = body.read(buffer);
        lock.lock();
        try {
          while (held >= MOST && failure == null) changed.awaitUninterruptibly();
          if (failure != null) return;
          if (n < 0) ended = true;
          else pieces.add(Arrays.copyOf(buffer, n));
          held += Math.max(n, 0);
          changed.signalAll();
        } finally {
          lock.unlock();
        }
        if (n < 0) return;
      }
    }

    void fail(Refusal why) {
      lock.lock();
      if (failure == null) failure = why;
      changed.signalAll();
      lock.unlock();
    }

    @Override public int read() {
      throw new UnsupportedOperationException();
    }

    @Override public int read(byte[] bytes, int offset, int length) {
      lock.lock();
      try {
        while (pieces.isEmpty() && !ended && failure == null) changed.awaitUninterruptibly();
        if (failure != null) throw failure;
        if (pieces.isEmpty()) return -1;
        byte[] first = pieces.peek();
        int n = Math.min(length, first.length - taken);
        System.arraycopy(first, taken, bytes, offset, n);
        taken += n;
        if (taken == first.length) {
          pieces.remove();
          held -= taken;
          taken = 0;
          changed.signalAll();
        }
        return n;
      } finally {
        lock.unlock();
      }
    }

    @Override public void close() {
      fail(new Refusal(409, "CANCELLED", "the feed has ended"));
    }
  }

  /**
   * A connection, which carries one request. The JDK's own server does not tell when a client leaves that has sent all of
   * its body, nor bounds how long a request may stall, so this reads and writes HTTP/1.1 itself.
   */
  private static final class Connection implements AutoCloseable {
    private static final int MAX_HEAD = 1 << 14; // bytes
    private static final int MAX_LINE = 1 << 10; // bytes, between chunks
    private static final long HEAD_SECONDS = number("INFINI_HEADER_TIMEOUT", 10);
    private static final long BODY_SECONDS = number("INFINI_BODY_TIMEOUT", 30);
    private static final Map<Integer, String> REASONS = Map.of(200, "OK", 201, "Created", 204, "No Content");
    private static final ScheduledThreadPoolExecutor TIMER = new ScheduledThreadPoolExecutor(1, work -> {
      Thread thread = new Thread(work, "timer");
      thread.setDaemon(true);
      return thread;
    });

    static {
      TIMER.setRemoveOnCancelPolicy(true);
    }

    private final Socket socket;
    private final ExecutorService executor;
    private final InputStream in;
    private final OutputStream out;
    private final Map<String, String> headers = new HashMap<>();
    private String method = ""; // until it has come
    private String path;
    private boolean answered;
    private Future<?> other; // reads, until the client leaves; null: nobody does but the request's own thread

    Connection(Socket socket, ExecutorService executor) throws IOException {
      this.socket = socket;
      this.executor = executor;
      socket.setTcpNoDelay(true); // events are small and shall not wait for one another
      socket.setOption(StandardSocketOptions.SO_KEEPALIVE, true);
      in = new BufferedInputStream(socket.getInputStream(), 1 << 16);
      out = socket.getOutputStream();
    }

    String method() {
      return method;
    }

    String path() {
      return path;
    }

    /** A header by its name in small letters; null: there is none. */
    String header(String name) {
      return headers.get(name);
    }

    boolean answered() {
      return answered;
    }

    /** Reads the head of the request; false: no request came. */
    boolean readHead() throws IOException {
      long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(HEAD_SECONDS);
      StringBuilder head = new StringBuilder();
      while (head.length() < 4 || head.indexOf("\r\n\r\n", head.length() - 4) < 0) {
        if (in.available() == 0) // the whole head has so much time, not each part
          socket.setSoTimeout((int) Math.max(1, TimeUnit.NANOSECONDS.toMillis(end - System.nanoTime())));
        int c;
        try {
          c = in.read();
        } catch (SocketTimeoutException e) {
          if (head.isEmpty()) return false;
          throw new Refusal(408, "TIMEOUT", "the head of the request did not come in time");
        }
        if (c < 0) return false;
        if (head.length() >= MAX_HEAD) throw new Refusal(431, "TOO_LARGE", "the head of the request is too large");
        head.append((char) c);
      }
      String[] lines = head.substring(0, head.length() - 4).split("\r\n", -1);
      String[] request = lines[0].split(" ", -1);
      if (request.length != 3 || !request[2].matches("HTTP/1\\.[01]")) throw invalid("the request is not HTTP/1.1");
      method = request[0];
      for (String line : List.of(lines).subList(1, lines.length)) {
        int colon = line.indexOf(':');
        if (colon < 1 || line.substring(0, colon).matches(".*\\s.*")) throw invalid("a header is not NAME: VALUE");
        String name = line.substring(0, colon).toLowerCase(Locale.ROOT);
        headers.merge(name, line.substring(colon + 1).strip(), (first, second) -> first + ", " + second);
      }
      try {
        path = URI.create(request[1]).getPath();
      } catch (IllegalArgumentException e) {
        path = null;
      }
      if (path == null || !path.startsWith("/")) throw invalid("the request has no path");
      return true;
    }

    /** The body, which is refused once it is larger than it may be, stalls, or is not as it was announced. */
    InputStream body(long limit) throws IOException {
      String coding = header("transfer-encoding");
      String length = header("content-length");
      if (coding != null && (length != null || !coding.equalsIgnoreCase("chunked")))
        throw invalid("the body's Transfer-Encoding must be chunked, without a Content-Length");
      if (length != null && !length.matches("[0-9]{1,18}")) throw invalid("the Content-Length is not a length");
      long announced = length == null ? 0 : Long.parseLong(length);
      if (announced > limit) throw tooLarge(limit);
      if ((coding != null || announced > 0) && "100-continue".equalsIgnoreCase(header("expect")))
        write("HTTP/1.1 100 Continue\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
      socket.setSoTimeout((int) TimeUnit.SECONDS.toMillis(BODY_SECONDS));
      return new Body(coding != null, announced, limit);
    }

    private static Refusal tooLarge(long limit) {
      return new Refusal(413, "TOO_LARGE", "the body is larger than " + limit + " bytes");
    }

    private final class Body extends InputStream {
      private final boolean chunked;
      private final long limit;
      private long left; // of the body or, where it is chunked, of the chunk
      private long taken;
      private boolean begun;
      private boolean ended;

      Body(boolean chunked, long length, long limit) {
        this.chunked = chunked;
        this.left = length;
        this.limit = limit;
      }

      @Override public int read() throws IOException {
        byte[] one = {0};
        return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
      }

      @Override public int read(byte[] bytes, int offset, int length) throws IOException {
        if (length == 0) return 0;
        try {
          if (chunked && left == 0 && !ended) beginChunk();
          if (left == 0) return -1;
          int n = in.read(bytes, offset, (int) Math.min(length, left));
          if (n < 0) throw endsEarly();
          left -= n;
          taken += n;
          if (taken > limit) throw tooLarge(limit);
          return n;
        } catch (SocketTimeoutException e) {
          throw new Refusal(408, "TIMEOUT", "the body stalled");
        }
      }

      private void beginChunk() throws IOException {
        if (begun && !line().isEmpty()) throw invalid("a chunk of the body does not end where it should");
        begun = true;
        String size = line().replaceFirst("[ \t]*;.*", "");
        if (!size.matches("[0-9a-fA-F]{1,15}")) throw invalid("a chunk of the body has no size");
        left = Long.parseLong(size, 16);
        if (left > 0) return;
        ended = true;
        for (int lines = 0; !line().isEmpty(); ++lines) { // trailers
          if (lines == 100) throw invalid("the body has too many trailers");
        }
      }

      private String line() throws IOException {
        StringBuilder line = new StringBuilder();
        while (true) {
          int c = in.read();
          if (c < 0) throw endsEarly();
          if (c == '\n' && line.length() > 0 && line.charAt(line.length() - 1) == '\r')
            return line.substring(0, line.length() - 1);
          if (line.length() == MAX_LINE) throw invalid("a line between the body's chunks is too long");
          line.append((char) c);
        }
      }

      private Refusal endsEarly() {
        return invalid("the body ends before its end");
      }
    }

    /** Does something on another thread, which alone reads from then on, until the connection is closed. */
    void meanwhile(Runnable work) {
      other = executor.submit(work);
    }

    void whenLeft(Runnable work) {
      meanwhile(() -> {
        awaitLeaving();
        work.run();
      });
    }

    /** Returns when the client has closed its side of the connection, or this side is closed. */
    void awaitLeaving() {
      try {
        socket.setSoTimeout(0);
        byte[] ignored = new byte[1 << 12];
        while (in.read(ignored) >= 0) continue;
      } catch (IOException e) {
        // it has left
      }
    }

    void answer(int code, Object json) throws IOException {
      byte[] body = json == null ? null : (JSON.toJson(json) + "\n").getBytes(StandardCharsets.UTF_8);
      answer(code, "application/json", body);
    }

    void answer(int code, String type, byte[] body) throws IOException {
      if (body == null) begin(code);
      else begin(code, "Content-Type: " + type, "Content-Length: " + body.length);
      if (body != null && !method.equals("HEAD")) write(body);
    }

    void begin(int code, String... lines) throws IOException {
      answered = true;
      String head = "HTTP/1.1 " + code + " " + REASONS.getOrDefault(code, "Refused") + "\r\nConnection: close\r\n"
          + (code == 401 ? "WWW-Authenticate: Bearer\r\n" : "") + String.join("\r\n", lines)
          + (lines.length > 0 ? "\r\n\r\n" : "\r\n");
      write(head.getBytes(StandardCharsets.US_ASCII));
    }

    /** Writes to a client that takes it: to one that does not, the connection is closed. */
    void write(byte[] bytes) throws IOException {
      for (int at = 0; at < bytes.length; at += 1 << 16) {
        Future<?> alarm = TIMER.schedule(this::closeSocket, BODY_SECONDS, TimeUnit.SECONDS);
        try {
          out.write(bytes, at, Math.min(1 << 16, bytes.length - at));
        } finally {
          alarm.cancel(false);
        }
      }
    }

    /** Lets the client read the answer, which would be lost if what it still sends met a closed connection. */
    @Override public void close() {
      Future<?> alarm = TIMER.schedule(this::closeSocket, 1, TimeUnit.SECONDS);
      try {
        socket.shutdownOutput();
        if (other == null) awaitLeaving();
        else other.get(1, TimeUnit.SECONDS);
      } catch (IOException | InterruptedException | ExecutionException | TimeoutException e) {
        // it has had its time
      } finally {
        alarm.cancel(false);
        closeSocket();
      }
    }

    private void closeSocket() {
      try {
        socket.close();
      } catch (IOException e) {
        // it is closed
      }
    }
  }
}
