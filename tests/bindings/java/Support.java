import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Status;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import org.junit.jupiter.api.function.Executable;

/** What the tests share. System property `source` is the folder of the sources. */
abstract class Support {
  static final Path SOURCE = Path.of(System.getProperty("source"));
  static final Path STORIES = SOURCE.resolve("samples/models/stories260K.gguf");

  /** Of a model. */
  static Options computing() {
    return new Options().set("compute", "f32").set("threads", 1);
  }

  /** Of a session. */
  static Options greedy() {
    return new Options().set("threads", 1).set("temperature", 0).set("max_tokens", 120);
  }

  static Model open() {
    return Model.open(STORIES, computing());
  }

  static String golden() throws IOException {
    return Files.readString(SOURCE.resolve("tests/bindings/golden.txt"));
  }

  static String transcript(Session session) {
    StringBuilder out = new StringBuilder();
    for (String prompt : List.of("Once upon a time", " Then Tom 😀 found a big red ball.")) {
      session.feed(prompt);
      out.append("> ").append(prompt).append('\n');
      out.append(session.generate().collect(Collectors.joining())).append('\n');
    }
    return out + "tokens " + session.position() + "\n";
  }

  /** Memory that the process holds, in bytes. */
  static long resident() throws IOException {
    return Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]) * 4096;
  }

  static void fails(Status status, String words, Executable call) {
    InfiniException e = assertThrows(InfiniException.class, call);
    assertEquals(status, e.status());
    assertEquals(status.code(), e.code());
    assertTrue(e.getMessage().contains(words), e.getMessage());
  }

  static void closed(Executable call) {
    assertTrue(assertThrows(IllegalStateException.class, call).getMessage().endsWith("is closed"));
  }
}
