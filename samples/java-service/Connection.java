import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.net.StandardSocketOptions;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BooleanSupplier;

/**
 * A connection, which carries one request. The JDK's own server does not tell when a client leaves that has sent all of
 * its body, nor bounds how long a request may stall, so this reads and writes HTTP/1.1 itself.
 */
final class Connection implements AutoCloseable {
  private static final int MAX_HEAD = 1 << 14; // bytes
  private static final int MAX_LINE = 1 << 10; // bytes, between chunks
  private static final long HEAD_SECONDS = Settings.number("INFINI_HEADER_TIMEOUT", 10);
  private static final long BODY_SECONDS = Settings.number("INFINI_BODY_TIMEOUT", 30);
  private static final long LOOK = 100; // milliseconds, in which a connection that waits for a head notices that the service ends
  private static final Map<Integer, String> REASONS = Map.of(200, "OK", 201, "Created", 204, "No Content");
  static final ScheduledThreadPoolExecutor TIMER = new ScheduledThreadPoolExecutor(1, work -> {
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
  private final StringBuilder more = new StringBuilder(); // lines of the answer's head
  final long came = System.nanoTime();
  String client = ""; // who asks, for turns
  int status; // of the answer
  long read; // tokens
  long written;
  boolean spoke; // there was text
  boolean kept; // something of the request is in a memory
  private Future<?> other; // reads, until the client leaves; null: nobody does but the request's own thread

  Connection(Socket socket, ExecutorService executor) throws IOException {
    this.socket = socket;
    this.executor = executor;
    socket.setTcpNoDelay(true); // events are small and shall not wait for one another
    socket.setOption(StandardSocketOptions.SO_KEEPALIVE, true);
    in = new BufferedInputStream(socket.getInputStream(), 1 << 13);
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

  String host() {
    return socket.getInetAddress().getHostAddress();
  }

  /** Adds a line to the head of the answer that is to come. */
  void add(String line) {
    more.append(line).append("\r\n");
  }

  boolean answered() {
    return answered;
  }

  /** Reads the head of the request; false: no request came, or none that had begun before the service ends. */
  boolean readHead(BooleanSupplier ending) throws IOException {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(HEAD_SECONDS);
    StringBuilder head = new StringBuilder();
    while (head.length() < 4 || head.indexOf("\r\n\r\n", head.length() - 4) < 0) {
      if (in.available() == 0) { // the whole head has so much time, not each part
        long left = TimeUnit.NANOSECONDS.toMillis(end - System.nanoTime());
        if (head.isEmpty() && (left <= 0 || ending.getAsBoolean())) return false;
        if (ending.getAsBoolean()) throw Refusal.ending();
        if (left <= 0) throw new Refusal(408, "TIMEOUT", "the head of the request did not come in time");
        socket.setSoTimeout((int) Math.min(LOOK, left));
      }
      int c;
      try {
        c = in.read();
      } catch (SocketTimeoutException e) {
        continue;
      }
      if (c < 0) return false;
      if (head.length() >= MAX_HEAD) throw new Refusal(431, "TOO_LARGE", "the head of the request is too large");
      head.append((char) c);
    }
    String[] lines = head.substring(0, head.length() - 4).split("\r\n", -1);
    String[] request = lines[0].split(" ", -1);
    if (request.length != 3 || !request[2].matches("HTTP/1\\.[01]")) throw Refusal.invalid("the request is not HTTP/1.1");
    method = request[0];
    for (String line : List.of(lines).subList(1, lines.length)) {
      int colon = line.indexOf(':');
      if (colon < 1 || line.substring(0, colon).matches(".*\\s.*")) throw Refusal.invalid("a header is not NAME: VALUE");
      String name = line.substring(0, colon).toLowerCase(Locale.ROOT);
      headers.merge(name, line.substring(colon + 1).strip(), (first, second) -> first + ", " + second);
    }
    try {
      path = URI.create(request[1]).getPath();
    } catch (IllegalArgumentException e) {
      path = null;
    }
    if (path == null || !path.startsWith("/")) throw Refusal.invalid("the request has no path");
    return true;
  }

  /** The body, which is refused once it is larger than it may be, stalls, or is not as it was announced. */
  InputStream body(long limit) throws IOException {
    String coding = header("transfer-encoding");
    String length = header("content-length");
    if (coding != null && (length != null || !coding.equalsIgnoreCase("chunked")))
      throw Refusal.invalid("the body's Transfer-Encoding must be chunked, without a Content-Length");
    if (length != null && !length.matches("[0-9]{1,18}")) throw Refusal.invalid("the Content-Length is not a length");
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
        if (n < 0) throw badlyFramed();
        left -= n;
        taken += n;
        if (taken > limit) throw tooLarge(limit);
        return n;
      } catch (SocketTimeoutException e) {
        throw new Refusal(408, "TIMEOUT", "no byte of the body came for " + BODY_SECONDS + " s");
      }
    }

    private void beginChunk() throws IOException {
      if (begun && !line().isEmpty()) throw badlyFramed();
      begun = true;
      String size = line().replaceFirst("[ \t]*;.*", "");
      if (!size.matches("[0-9a-fA-F]{1,15}")) throw badlyFramed();
      left = Long.parseLong(size, 16);
      if (left > 0) return;
      ended = true;
      for (int lines = 0; !line().isEmpty(); ++lines) { // trailers
        if (lines == 100) throw badlyFramed();
      }
    }

    private String line() throws IOException {
      StringBuilder line = new StringBuilder();
      while (true) {
        int c = in.read();
        if (c < 0) throw badlyFramed();
        if (c == '\n' && line.length() > 0 && line.charAt(line.length() - 1) == '\r')
          return line.substring(0, line.length() - 1);
        if (line.length() == MAX_LINE) throw badlyFramed();
        line.append((char) c);
      }
    }

    private Refusal badlyFramed() {
      return Refusal.invalid("the body ends early or is badly framed");
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
    byte[] body = json == null ? null : (Requests.JSON.toJson(json) + "\n").getBytes(StandardCharsets.UTF_8);
    answer(code, "application/json", body);
  }

  void answer(int code, String type, byte[] body) throws IOException {
    if (body == null) begin(code);
    else begin(code, "Content-Type: " + type, "Content-Length: " + body.length);
    if (body != null && !method.equals("HEAD")) write(body);
  }

  void begin(int code, String... lines) throws IOException {
    answered = true;
    status = code;
    String head = "HTTP/1.1 " + code + " " + REASONS.getOrDefault(code, "Refused") + "\r\nConnection: close\r\n"
        + more + (code == 401 ? "WWW-Authenticate: Bearer\r\n" : "") + String.join("\r\n", lines)
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

  /** Lets the client read the answer, if there was one, which would be lost if what it still sends met a closed connection. */
  @Override public void close() {
    if (!answered) {
      closeSocket();
      return;
    }
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
