import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayDeque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/** What operators expect: logs, tokens, probes and metrics. */
final class Operators {
  /** Lets the page run what is in it, and ask this service alone. */
  static final String PAGE_POLICY =
      "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'";
  private static final String TOKENS = "[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*"; // of HTTP
  private static final int SAMPLE = 5; // seconds, between samples of the totals
  private static final double[] BUCKETS = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
  private static final boolean LOGS = !"off".equals(Settings.text("INFINI_LOG"));

  private final List<byte[]> tokens = Settings.list("INFINI_TOKEN").stream()
      .map(token -> OpenAi.digest("Bearer " + token)).toList();
  private final List<String> origins = Settings.list("INFINI_CORS");
  private final TreeMap<Integer, Long> requests = new TreeMap<>(); // by status
  private final long[] first = new long[BUCKETS.length + 1]; // of seconds to the first text: how many came in each bucket, and later
  private double seconds;
  private long read;
  private long written;
  private final ArrayDeque<Totals> minute = new ArrayDeque<>(); // of the last one, the oldest first

  private record Totals(long time, long read, long written) {}

  Operators() {
    Connection.TIMER.scheduleAtFixedRate(this::sample, 0, SAMPLE, TimeUnit.SECONDS);
  }

  private synchronized void sample() {
    if (minute.size() > 60 / SAMPLE) minute.remove();
    minute.add(new Totals(System.nanoTime(), read, written));
  }

  /**
   * Answers those who ask whether the service lives and takes requests; lets in who has a token, all of which are compared, each in
   * the same time. Returns whether there is more to answer.
   */
  boolean admit(Connection connection, Work work) throws IOException {
    if (allowOrigin(connection)) return false;
    boolean ready = connection.path().equals("/readyz");
    if (connection.method().equals("GET") && (ready || connection.path().equals("/healthz"))) {
      if (ready && work.full()) throw new Refusal(503, "QUEUE_FULL", "as many requests wait as may");
      connection.answer(200, Map.of("status", ready ? "ready" : "ok"));
      return false;
    }
    if (connection.method().equals("GET") && connection.path().equals("/")) return true; // a page holds no secret
    String header = connection.header("authorization");
    byte[] given = OpenAi.digest(header == null ? "" : header);
    int who = -1;
    for (int i = 0; i < tokens.size(); ++i)
      if (MessageDigest.isEqual(given, tokens.get(i))) who = i;
    if (who < 0) throw new Refusal(401, "UNAUTHORIZED", "the Authorization header must be: Bearer TOKEN");
    connection.client = who + " " + connection.host();
    return true;
  }

  /** Lets pages of the origins that were named ask. Returns whether it answered what browsers ask before. */
  private boolean allowOrigin(Connection connection) throws IOException {
    String origin = connection.header("origin");
    if (origin == null || !origins.contains("*") && !origins.contains(origin)) return false;
    connection.add("Access-Control-Allow-Origin: " + origin);
    connection.add("Vary: Origin");
    if (!connection.method().equals("OPTIONS")) return false;
    connection.add("Access-Control-Allow-Methods: GET, POST, PUT, DELETE");
    String asked = connection.header("access-control-request-headers");
    boolean given = asked != null && asked.length() <= 1 << 10 && asked.matches(TOKENS);
    connection.add("Access-Control-Allow-Headers: " + (given ? asked : "Authorization, Content-Type, Infini-Memory"));
    connection.answer(204, null);
    return true;
  }

  /** Counts how long the first text took. */
  synchronized void firstToken(Connection connection) {
    if (connection.spoke) return;
    connection.spoke = true;
    double took = (System.nanoTime() - connection.came) / 1e9;
    int bucket = 0;
    while (bucket < BUCKETS.length && BUCKETS[bucket] < took) ++bucket;
    ++first[bucket];
    seconds += took;
  }

  /** Counts and logs a request that has ended. */
  void ended(Connection connection) {
    synchronized (this) {
      requests.merge(connection.status, 1L, Long::sum);
      read += connection.read;
      written += connection.written;
    }
    boolean unknown = connection.path() == null || connection.status == 401 || connection.status == 404; // may be anything
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("message", "request");
    facts.put("method", connection.method());
    facts.put("path", unknown ? "" : connection.path().replaceFirst("^/(sessions|v1/memories)/[^/]+", "/$1/{}"));
    facts.put("status", connection.status);
    facts.put("ms", (System.nanoTime() - connection.came) / 1_000_000);
    facts.put("tokens_read", connection.read);
    facts.put("tokens_written", connection.written);
    log("info", facts);
  }

  /** Writes a line of JSON of what happened, without what users wrote. */
  static void log(String level, Map<String, Object> facts) {
    if (!LOGS) return;
    Map<String, Object> line = new LinkedHashMap<>(facts);
    line.put("time", Instant.now().truncatedTo(ChronoUnit.MILLIS).toString());
    line.put("level", level);
    System.err.println(Requests.JSON.toJson(line));
  }

  /** All of it in Prometheus's text format. */
  byte[] metrics(Sessions sessions, Work work) {
    return metrics(sessions, work, sessions.count());
  }

  private synchronized byte[] metrics(Sessions sessions, Work work, Integer memories) {
    StringBuilder text = new StringBuilder();
    one(text, "tokens_read_total", "counter", "Tokens of requests that were read.", read);
    one(text, "tokens_written_total", "counter", "Tokens that were written.", written);
    one(text, "queue_requests", "gauge", "Requests that wait for their turn.", work.waiting());
    one(text, "active_requests", "gauge", "Requests that read or write.", work.inside());
    one(text, "sessions", "gauge", "Sessions in the machine's memory, those of memories among them.", sessions.list().size());
    one(text, "session_bytes", "gauge", "Bytes of these sessions.", sessions.bytes());
    if (memories != null) one(text, "memories", "gauge", "Memories, wherever they are.", memories);
    Totals before = minute.peek();
    double since = before == null ? 1 : Math.max(1, (System.nanoTime() - before.time) / 1e9);
    one(text, "read_tokens_per_second", "gauge", "Tokens that were read, in the last minute.",
        before == null ? 0 : Math.round(10 * (read - before.read) / since) / 10.0);
    one(text, "write_tokens_per_second", "gauge", "Tokens that were written, in the last minute.",
        before == null ? 0 : Math.round(10 * (written - before.written) / since) / 10.0);
    long resident = residentBytes();
    if (resident > 0)
      text.append("# HELP process_resident_memory_bytes Memory of the process.\n# TYPE process_resident_memory_bytes gauge\n")
          .append("process_resident_memory_bytes ").append(resident).append('\n');
    title(text, "requests_total", "counter", "Requests that have ended, by the status of the answer.");
    requests.forEach((status, count) ->
        text.append("infini_requests_total{status=\"").append(status).append("\"} ").append(count).append('\n'));
    title(text, "first_token_seconds", "histogram", "From the request to its first text.");
    long sum = 0;
    for (int i = 0; i < first.length; ++i) {
      String bound = i == BUCKETS.length ? "+Inf" : String.valueOf(BUCKETS[i]);
      sum += first[i];
      text.append("infini_first_token_seconds_bucket{le=\"").append(bound).append("\"} ").append(sum).append('\n');
    }
    text.append("infini_first_token_seconds_sum ").append(seconds)
        .append("\ninfini_first_token_seconds_count ").append(sum).append('\n');
    return text.toString().getBytes(StandardCharsets.UTF_8);
  }

  /** As Linux tells it; 0: nobody does. */
  private static long residentBytes() {
    try {
      for (String line : Files.readAllLines(Path.of("/proc/self/status")))
        if (line.startsWith("VmRSS:")) return 1024 * Long.parseLong(line.replaceAll("[^0-9]", ""));
    } catch (IOException e) {
      // another system
    }
    return 0;
  }

  private static void title(StringBuilder text, String name, String kind, String help) {
    text.append("# HELP infini_").append(name).append(' ').append(help)
        .append("\n# TYPE infini_").append(name).append(' ').append(kind).append('\n');
  }

  private static void one(StringBuilder text, String name, String kind, String help, Number value) {
    title(text, name, kind, help);
    text.append("infini_").append(name).append(' ').append(value).append('\n');
  }
}
