import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import infini.Batch;
import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Status;
import infini.Task;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** What batches promise. */
class BatchTest {
  private static final List<String> PROMPTS = List.of("Once upon a time", "The cat 😀", "Tom and Lily went to");

  private static Options greedy(int maxTokens) {
    return new Options().set("threads", 1).set("temperature", 0).set("deterministic", 1)
        .set("max_tokens", maxTokens);
  }

  private static Model open() {
    return Model.open(Path.of(System.getProperty("source"), "samples/models/stories260K.gguf"), new Options().set("compute", "f32").set("threads", 1));
  }

  private static List<Session> sessions(Model model, int maxTokens) {
    List<Session> sessions = new ArrayList<>();
    for (String prompt : PROMPTS) {
      Session session = model.newSession(greedy(maxTokens++));
      session.feed(prompt);
      sessions.add(session);
    }
    return sessions;
  }

  @Test void sessionsWriteWhatTheyWouldWriteAlone() {
    try (Model model = open(); Batch batch = model.newBatch()) {
      List<String> alone = sessions(model, 40).stream().map(session -> session.generate().collect(Collectors.joining())).toList();
      List<Session> sessions = sessions(model, 40);
      sessions.forEach(batch::add);
      assertEquals(sessions, batch.sessions());
      List<StringBuilder> together = List.of(new StringBuilder(), new StringBuilder(), new StringBuilder());
      for (int call = 0; call <= 40; ++call) { // the first has 40 tokens, the second 41, the third 42
        int[] tokens = batch.next();
        for (int i = 0; i < 3; ++i) {
          assertEquals(call >= 40 + i, tokens[i] < 0);
          together.get(i).append(batch.text(sessions.get(i)));
        }
      }
      sessions.remove(0).close();
      assertEquals(alone.get(0), together.get(0).toString());
      assertThrows(IllegalStateException.class, batch::next); // one is closed
      batch.remove(batch.sessions().get(0));
      assertEquals(sessions, batch.sessions());
      int[] tokens = batch.next();
      assertEquals(-1, tokens[0]);
      for (int i = 0; i < 2; ++i) together.get(i + 1).append(batch.text(sessions.get(i)));
      for (int i = 1; i < 3; ++i) assertEquals(alone.get(i), together.get(i).toString());
    }
  }

  @Test void refusals() {
    Model model = open();
    Batch batch = model.newBatch();
    assertNull(batch.next());
    Session session = model.newSession();
    batch.add(session);
    assertEquals(Status.INVALID_ARGUMENT, assertThrows(InfiniException.class, () -> batch.add(session)).status());
    assertEquals(Status.STATE, assertThrows(InfiniException.class, batch::next).status()); // it was fed nothing
    try (Task task = new Task()) {
      session.feed("Once");
      task.cancel();
      assertEquals(Status.CANCELLED, assertThrows(InfiniException.class, () -> batch.next(task)).status());
      assertEquals(1, batch.next(task).length);
    }
    try (Model other = Model.create("{\"layers\": 1}", null, null); Session stranger = other.newSession()) {
      assertEquals(Status.INVALID_ARGUMENT, assertThrows(InfiniException.class, () -> batch.add(stranger)).status());
      assertThrows(IllegalArgumentException.class, () -> batch.remove(stranger));
      assertThrows(IllegalArgumentException.class, () -> batch.text(stranger));
    }
    model.close();
    session.nextText(); // by itself
    batch.close();
    batch.close();
    assertThrows(IllegalStateException.class, batch::next);
    assertThrows(IllegalStateException.class, () -> batch.add(session));
    session.nextText();
    session.close();
  }

  @Test void closingDuringCalls() throws Exception {
    ExecutorService executor = Executors.newFixedThreadPool(3);
    try (Model model = open()) {
      for (int round = 0; round < 20; ++round) {
        List<Session> sessions = sessions(model, 1 << 20);
        Batch one = model.newBatch();
        Batch two = model.newBatch(); // of the same sessions, in another order
        for (int i = 0; i < 3; ++i) {
          one.add(sessions.get(i));
          two.add(sessions.get(2 - i));
        }
        List<Future<?>> ends = new ArrayList<>();
        for (Batch batch : List.of(one, two)) ends.add(executor.submit(() -> {
          try {
            while (true) batch.next();
          } catch (IllegalStateException e) {
            return; // closed: the batch or a session
          } catch (InfiniException e) {
            assertEquals(Status.CANCELLED, e.status());
          }
        }));
        ends.add(executor.submit(() -> {
          for (int i = 0; i < 5; ++i) sessions.get(1).next();
        }));
        Thread.sleep(round);
        for (Future<?> end : ends.subList(2, 3)) end.get();
        if (round % 2 == 0) sessions.get(0).close();
        one.close();
        two.close();
        for (Future<?> end : ends) end.get();
        for (Session session : sessions) session.close();
      }
    } finally {
      executor.shutdown();
    }
  }

  @Test void collectedWithItsSessions() throws Exception {
    try (Model model = open()) {
      for (int i = 0; i < 200; ++i) {
        Batch batch = model.newBatch().add(model.newSession()).add(model.newSession());
        batch.sessions().forEach(session -> session.feed("Once"));
        assertEquals(2, batch.next().length);
        if (i % 20 == 0) System.gc();
      }
    }
  }
}
