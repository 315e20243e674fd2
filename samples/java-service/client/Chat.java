import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Talks with a service, which has the conversation in a memory: each line of standard input is a message. It needs a JDK and nothing else.
 *
 * <pre>INFINI_TOKEN=secret java Chat.java http://127.0.0.1:8080/v1 MODEL [MEMORY]</pre>
 */
final class Chat {
  /** The text of an event. No library of JSON is needed: within a text of JSON each quote has a backslash before it, so that this
      finds a key and its whole value, and nothing that the model wrote can look like them. */
  private static final Pattern CONTENT = Pattern.compile("\"content\"\\s*:\\s*\"([^\"\\\\]*+(?:\\\\.[^\"\\\\]*+)*+)\"");
  private static final Pattern ESCAPE = Pattern.compile("\\\\(?:u([0-9a-fA-F]{4})|(.))");

  public static void main(String[] args) throws IOException, InterruptedException {
    if (args.length < 2) {
      System.err.println("usage: INFINI_TOKEN=secret java Chat.java URL MODEL [MEMORY]");
      System.exit(1);
    }
    HttpClient client = HttpClient.newHttpClient();
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = lines.readLine()) != null; out.println()) {
      String body = "{\"model\": " + quoted(args[1]) + ", \"memory\": " + quoted(args.length > 2 ? args[2] : "chat")
          + ", \"max_tokens\": 300, \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": " + quoted(line) + "}]}";
      HttpRequest request = HttpRequest.newBuilder(URI.create(args[0] + "/chat/completions"))
          .header("Authorization", "Bearer " + System.getenv("INFINI_TOKEN")).header("Content-Type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString(body)).build();
      HttpResponse<Stream<String>> response = client.send(request, HttpResponse.BodyHandlers.ofLines());
      try (Stream<String> events = response.body()) { // which come one by one
        events.forEach(event -> {
          if (response.statusCode() != 200 || event.startsWith("data: {\"error\"")) {
            System.err.println(event);
            System.exit(1);
          }
          Matcher found = CONTENT.matcher(event);
          if (event.startsWith("data: ") && found.find()) out.print(unescaped(found.group(1)));
          out.flush();
        });
      }
    }
  }

  private static String quoted(String text) {
    StringBuilder json = new StringBuilder("\"");
    for (char c : text.toCharArray())
      json.append(c == '"' || c == '\\' ? "\\" + c : c < ' ' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
    return json.append('"').toString();
  }

  private static String unescaped(String json) {
    return ESCAPE.matcher(json).replaceAll(found -> {
      char c = found.group(1) != null ? (char) Integer.parseInt(found.group(1), 16) : found.group(2).charAt(0);
      int control = found.group(1) == null ? "bfnrt".indexOf(c) : -1;
      return Matcher.quoteReplacement(String.valueOf(control < 0 ? c : "\b\f\n\r\t".charAt(control)));
    });
  }
}
