import infini.CancelledException;
import infini.Model;
import infini.ModelInfo;
import infini.Options;
import infini.Session;
import infini.Snapshot;
import java.io.IOException;
import java.io.InputStream;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.sql.SQLException;
import java.util.HexFormat;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * Serves sessions of one model over HTTP. samples/SERVICES.md describes its calls, which the services in the other
 * languages have too.
 *
 * <pre>INFINI_TOKEN=secret java -cp infini-0.1.0.jar:gson.jar:CLASSES Service MODEL.gguf [ADDRESS]</pre>
 */
final class Service {
  private final Model model;
  private static final int MAX_NOTE = 1 << 10; // bytes

  private final long maxBody = Settings.number("INFINI_MAX_BODY", 1L << 30); // bytes of a request
  private final Sessions sessions;
  private final Operators operators = new Operators();
  private final Work work;
  private final byte[] page; // to talk on; null: there is none
  private final OpenAi openAi;
  private final SecureRandom random = new SecureRandom();
  private final ExecutorService executor = executor();
  private final int mostConnections = (int) Settings.number("INFINI_MAX_CONNECTIONS", 1000);
  private final Semaphore connections = new Semaphore(mostConnections); // each has one, until it is closed
  private volatile boolean ending;

  private Service(Model model, MemoryStore store) throws IOException {
    this.model = model;
    this.sessions = new Sessions(model, Settings.number("INFINI_MAX_SESSIONS", 100),
        Settings.number("INFINI_MAX_MEMORIES", 10000), store);
    sessions.expire(Settings.number("INFINI_IDLE_SECONDS", 0));
    String file = Settings.text("INFINI_PAGE");
    this.page = file == null ? null : Files.readAllBytes(Path.of(file));
    this.work = new Work(model, operators);
    this.openAi = new OpenAi(model.info().name(), sessions, work, Settings.number("INFINI_MAX_TOKENS", 4096));
  }

  public static void main(String[] args) throws IOException {
    if (args.length < 1 || Settings.list("INFINI_TOKEN").isEmpty()) {
      System.err.println("usage: INFINI_TOKEN=secret java Service MODEL.gguf [ADDRESS]");
      System.exit(1);
    }
    String address = args.length > 1 ? args[1] : "127.0.0.1:8080";
    int colon = address.lastIndexOf(':');
    String host = address.substring(0, Math.max(colon, 0));
    Service service = new Service(Model.open(Path.of(args[0])), store(Path.of(args[0])));
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

  private static MemoryStore store(Path model) {
    try {
      String named = Settings.store(model);
      return named == null ? null : MemoryStore.open(named);
    } catch (IOException | SQLException | IllegalArgumentException e) {
      System.err.println("INFINI_STORE cannot be used: " + e.getMessage());
      System.exit(1);
      return null;
    }
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

  /** On SIGTERM and Ctrl-C: running calls are cancelled, what comes is refused, and each has a moment to say so. What is
      being written to the store then is written, however long that takes, and answered. */
  private void end(ServerSocket listener) {
    ending = true;
    try {
      listener.close();
      sessions.end();
      boolean answered = connections.tryAcquire(mostConnections, 3, TimeUnit.SECONDS);
      sessions.awaitKept();
      if (!answered) connections.tryAcquire(mostConnections, 1, TimeUnit.SECONDS);
    } catch (IOException | InterruptedException e) {
      // it ends all the same
    }
  }

  private void handle(Connection connection) throws IOException {
    try {
      if (!connection.readHead(() -> ending)) return;
      if (ending) throw Refusal.ending();
      serve(connection);
    } catch (RuntimeException | OutOfMemoryError e) {
      if (connection.answered()) return;
      Refusal refusal = Refusal.of(e);
      if (refusal.name.equals("CANCELLED") || refusal.code == 504 && connection.kept) connection.add("x-should-retry: false");
      if (refusal.code == 429) connection.add("Retry-After: " + work.retryAfter());
      boolean theirs = connection.path() != null && connection.path().startsWith("/v1/");
      connection.answer(refusal.code, theirs ? OpenAi.error(refusal) : refusal.body());
    } finally {
      if (connection.status != 0) operators.ended(connection);
    }
  }

  private void serve(Connection connection) throws IOException {
    String[] path = connection.path().substring(1).split("/", -1);
    String method = connection.method();
    if (!operators.admit(connection, work)) return;
    if (connection.path().equals("/") && page != null) {
      if (!method.equals("GET")) throw Refusal.wrongMethod();
      connection.add("Content-Security-Policy: " + Operators.PAGE_POLICY);
      connection.answer(200, "text/html; charset=utf-8", page);
    } else if (path.length == 4 && path[0].equals("v1") && path[1].equals("memories") && path[3].equals("feed")) {
      if (!method.equals("POST")) throw Refusal.wrongMethod();
      sessions.inTurn(path[2], true, (client, use) ->
          feed(connection, client.session, use, () -> sessions.keep(path[2], client)));
    } else if (path.length == 4 && path[0].equals("v1") && path[1].equals("memories") && path[3].equals("note")) {
      if (!connection.method().equals("PUT")) throw Refusal.wrongMethod();
      note(connection, path[2]);
    } else if (path.length == 4 && path[0].equals("v1") && path[1].equals("memories") && path[3].equals("merge")) {
      if (!method.equals("POST")) throw Refusal.wrongMethod();
      merge(connection, path[2]);
    } else if (path.length == 3 && path[0].equals("v1") && path[1].equals("memories")) {
      serveMemory(connection, path[2]);
    } else if (path[0].equals("v1")) {
      openAi.serve(connection);
    } else if (path.length == 1 && path[0].equals("metrics")) {
      if (!method.equals("GET")) throw Refusal.wrongMethod();
      connection.answer(200, "text/plain; version=0.0.4", operators.metrics(sessions, work));
    } else if (path.length == 1 && (path[0].equals("healthz") || path[0].equals("readyz"))) {
      throw Refusal.wrongMethod();
    } else if (path.length == 1 && path[0].equals("model")) {
      if (!method.equals("GET")) throw Refusal.wrongMethod();
      connection.answer(200, "application/json", (model.info().json() + "\n").getBytes(StandardCharsets.UTF_8));
    } else if (path.length == 1 && path[0].equals("sessions")) {
      switch (method) {
        case "GET" -> connection.answer(200, sessions.list());
        case "POST" -> connection.answer(201, Map.of("id", create(connection.body(Math.min(Requests.MAX_OPTIONS, maxBody)))));
        default -> throw Refusal.wrongMethod();
      }
    } else if (path.length < 2 || path.length > 3 || !path[0].equals("sessions")) {
      throw Refusal.noPath();
    } else {
      serveSession(connection, path[1], sessions.of(path[1]), method + " " + (path.length == 3 ? path[2] : ""));
    }
  }

  private void serveSession(Connection connection, String id, Client client, String call) throws IOException {
    if (id.startsWith(Sessions.MEMORY) && !call.equals("POST cancel"))
      throw new Refusal(405, "METHOD_NOT_ALLOWED",
          "of a memory only `cancel` goes by /sessions; all else goes by /v1/memories");
    switch (call) {
      case "DELETE " -> {
        sessions.remove(id);
        connection.answer(204, null);
      }
      case "POST cancel" -> {
        client.cancel();
        connection.answer(204, null);
      }
      case "POST feed" -> client.inTurn(use -> feed(connection, client.session, use, () -> {}));
      case "POST generate" -> client.inTurn(use -> {
        client.session.logits(); // what is refused is refused before the answer begins
        connection.whenLeft(() -> use.end(Refusal.left()));
        work.act(connection, use, () -> generate(connection, client.session, use));
      });
      case "POST chat" -> {
        String messages = Requests.messages(connection.body(Math.min(Requests.MAX_MESSAGES, maxBody)));
        client.inTurn(use -> {
          connection.whenLeft(() -> use.end(Refusal.left()));
          work.act(connection, use, () -> {
            work.readChat(connection, client.session, messages, use);
            generate(connection, client.session, use);
          });
        });
      }
      case "GET snapshot" -> client.inTurn(use -> give(connection, client));
      case "PUT snapshot" -> {
        Snapshot snapshot = Snapshot.of(connection.body(maxBody).readAllBytes());
        client.inTurn(use -> {
          client.session.restore(snapshot, null);
          connection.answer(200, Map.of("position", client.session.position()));
        });
      }
      default -> throw Refusal.wrongMethod();
    }
  }

  private static void give(Connection connection, Client client) throws IOException {
    connection.answer(200, "application/octet-stream", client.session.snapshot().toByteArray());
  }

  /** Gives, takes and deletes a memory, as a snapshot of its session. */
  private void serveMemory(Connection connection, String name) throws IOException {
    switch (connection.method()) {
      case "GET" -> sessions.inTurn(name, false, (client, use) -> give(connection, client));
      case "PUT" -> {
        Sessions.checkName(name); // before the body is read
        Snapshot snapshot = Snapshot.of(connection.body(maxBody).readAllBytes());
        sessions.inTurn(name, true, (client, use) -> {
          client.session.restore(snapshot, null);
          client.known = "";
          sessions.keep(name, client);
          connection.answer(200, Map.of("position", client.session.position()));
        });
      }
      case "DELETE" -> {
        sessions.forget(name);
        connection.answer(204, null);
      }
      default -> throw Refusal.wrongMethod();
    }
  }

  /** Those of a small body. */
  private OpenAi.Fields fieldsOf(Connection connection) throws IOException {
    return new OpenAi.Fields(Requests.objectOf(Requests.textOf(connection.body(Math.min(Requests.MAX_OPTIONS, maxBody)))));
  }

  /** Writes the note of a memory, which lists show. */
  private void note(Connection connection, String name) throws IOException {
    OpenAi.Fields fields = fieldsOf(connection);
    String note = fields.text("note");
    if (note == null || note.indexOf(0) >= 0) throw Refusal.invalid("\"note\" must be a text");
    if (note.getBytes(StandardCharsets.UTF_8).length > MAX_NOTE) throw Refusal.invalid("\"note\" may have at most " + MAX_NOTE + " bytes");
    sessions.inTurn(name, false, (client, use) -> {
      client.note = note;
      sessions.keep(name, client);
      connection.answer(200, Map.of("note", note));
    });
  }

  /** Adds what another memory holds to one. */
  private void merge(Connection connection, String name) throws IOException {
    OpenAi.Fields fields = fieldsOf(connection);
    String other = fields.text("memory");
    if (other == null) throw Refusal.invalid("\"memory\" must name the memory that is added");
    double weight = fields.number("weight", 1);
    Snapshot[] snapshot = {null};
    sessions.inTurn(other, false, (from, use) -> snapshot[0] = from.session.snapshot());
    sessions.inTurn(name, true, (client, use) -> {
      client.session.merge(snapshot[0], weight, use.task);
      sessions.keep(name, client);
      connection.answer(200, Map.of("position", client.session.position()));
    });
  }

  private String create(InputStream body) throws IOException {
    try (Options options = Requests.optionsOf(Requests.textOf(body))) {
      byte[] id = new byte[16];
      random.nextBytes(id);
      String name = HexFormat.of().formatHex(id);
      sessions.add(name, model.newSession(options));
      return name;
    }
  }

  /** Reads the body into the session, and keeps that before it answers. */
  private void feed(Connection connection, Session session, Client.Call call, Runnable keep) throws IOException {
    InputStream body = connection.body(maxBody);
    try (Ahead text = new Ahead()) {
      call.text = text;
      if (call.reason != null) throw call.reason;
      connection.meanwhile(() -> {
        try {
          text.fill(body);
        } catch (Refusal | OutOfMemoryError e) {
          call.end(Refusal.of(e));
        } catch (IOException e) {
          call.end(Refusal.left());
        }
        connection.awaitLeaving();
        call.end(Refusal.left());
      });
      long before = session.info().unknownBytes(), position = session.position();
      boolean whole = false;
      try {
        work.feed(connection, session, text, call);
        whole = true;
      } finally {
        long read = Work.positionOf(session, position) - position;
        connection.read += read;
        if (whole || read != 0) keep.run();
      }
      connection.answer(200, Map.of("position", session.position(), "skipped", session.info().unknownBytes() - before));
    }
  }

  /** Sends the text of a run as server-sent events. The session may go on after it, however it ends. */
  private void generate(Connection connection, Session session, Client.Call call) throws IOException {
    connection.begin(200, "Content-Type: text/event-stream", "Cache-Control: no-store");
    try {
      String reason = work.run(connection, session, call, text -> {
        if (text == null) connection.write(OpenAi.BEAT);
        else send(connection, "text", Map.of("text", text));
      }, true);
      send(connection, "end", Map.of("stop_reason", reason));
    } catch (CancelledException | IllegalStateException e) { // a session that was closed is cancelled, too
      send(connection, "end", Map.of("stop_reason", "cancelled"));
    } catch (RuntimeException | OutOfMemoryError e) {
      send(connection, "error", Refusal.of(e).body());
    }
  }

  private static void send(Connection connection, String name, Map<String, ?> data) throws IOException {
    connection.write(("event: " + name + "\ndata: " + Requests.JSON.toJson(data) + "\n\n").getBytes(StandardCharsets.UTF_8));
  }
}
