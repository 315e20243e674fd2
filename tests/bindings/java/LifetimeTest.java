import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Status;
import infini.Task;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.Test;

/** What closing, the garbage collector and many threads may do. */
class LifetimeTest extends Support {
  @Test void closingTwiceAndUseAfter() throws IOException {
    Model model = open();
    Session session = model.newSession(greedy());
    model.close();
    model.close();
    assertEquals(golden(), transcript(session)); // the session keeps its model
    session.close();
    session.close();
    closed(model::newSession);
    closed(() -> model.tokenize("a", false, false));
    closed(() -> session.feed("a"));
    closed(session::nextText);
    closed(session::cancel);
    closed(session::fork);
    new Options().close();
    new Task().close();
  }

  @Test void closeDuringGenerate() throws Exception {
    ExecutorService executor = Executors.newFixedThreadPool(2);
    try (Model model = open()) {
      for (int i = 0; i < 50; ++i) {
        Session session = model.newSession(new Options().set("max_tokens", -1).set("threads", 1));
        session.feed("Once upon a time");
        List<Future<?>> ends = new ArrayList<>();
        for (int k = 0; k < 2; ++k) ends.add(executor.submit(() -> session.generate().forEach(text -> {}))); // one waits
        TimeUnit.MICROSECONDS.sleep(i * 100);
        session.close();
        for (Future<?> end : ends) {
          Throwable cause = assertThrows(ExecutionException.class, () -> end.get(60, TimeUnit.SECONDS)).getCause();
          if (cause instanceof InfiniException e) assertEquals(Status.CANCELLED, e.status());
          else assertEquals("the session is closed", cause.getMessage());
        }
      }
      Session session = model.newSession(greedy());
      Task task = new Task();
      Future<?> feeding = executor.submit(() -> session.feed(new int[5000000], task));
      while (task.done() == 0) Thread.sleep(1);
      session.close();
      Throwable cause = assertThrows(ExecutionException.class, () -> feeding.get(60, TimeUnit.SECONDS)).getCause();
      assertEquals(Status.CANCELLED, ((InfiniException) cause).status());
    } finally {
      executor.shutdown();
    }
  }

  private static void cycle(int times) {
    for (int i = 0; i < times; ++i) {
      try (Options options = computing(); Model model = Model.open(STORIES, options); Options of = greedy(); Session session = model.newSession(of)) {
        session.feed("Once");
        session.nextText();
      }
    }
    System.gc();
  }

  @Test void thousandOpenCloseCyclesDoNotGrow() throws IOException {
    cycle(500);
    long before = resident();
    cycle(1000);
    assertTrue(resident() - before < 48 << 20, "grew by " + (resident() - before));
  }

  @Test void garbageCollectorFreesWhatIsNotClosed() throws Exception {
    try (Model model = open(); Options options = greedy()) {
      long before = 0;
      for (int i = 0; i < 1200; ++i) { // the last use of each session is inside its own call
        model.newSession(options).feed("Once upon a time 😀");
        if (i % 10 == 0) {
          System.gc();
          Thread.sleep(1);
        }
        if (i == 200) before = resident();
      }
      assertTrue(resident() - before < 512 << 20, "grew by " + (resident() - before)); // a session takes megabytes
    }
  }

  @Test void collectingDuringCalls() throws Exception {
    AtomicBoolean stop = new AtomicBoolean();
    Thread collector = new Thread(() -> { while (!stop.get()) System.gc(); });
    collector.start();
    try (Model model = open(); Options options = greedy()) {
      String golden = golden();
      for (int i = 0; i < 20; ++i) assertEquals(golden, transcript(model.newSession(options)));
    } finally {
      stop.set(true);
      collector.join();
    }
  }

  @Test void eightThreadsWithTheirOwnSessions() throws Exception {
    ExecutorService executor = Executors.newFixedThreadPool(8);
    String golden = golden();
    try (Model model = open(); Options options = greedy()) {
      List<Future<?>> ends = new ArrayList<>();
      for (int i = 0; i < 8; ++i) {
        ends.add(executor.submit(() -> {
          try (Session session = model.newSession(options)) {
            for (int k = 0; k < 5; ++k) {
              assertEquals(golden, transcript(session));
              session.reset();
            }
          }
        }));
      }
      for (Future<?> end : ends) end.get();
    } finally {
      executor.shutdown();
    }
  }

  @Test void oneSessionOfManyThreadsTakesTurns() throws Exception {
    ExecutorService executor = Executors.newFixedThreadPool(8);
    try (Model model = open(); Session session = model.newSession(greedy().set("max_tokens", -1))) {
      session.feed("Once");
      List<Future<?>> ends = new ArrayList<>();
      for (int i = 0; i < 8; ++i) {
        ends.add(executor.submit(() -> {
          for (int k = 0; k < 50; ++k) session.nextText();
        }));
      }
      for (Future<?> end : ends) end.get();
    } finally {
      executor.shutdown();
    }
  }

  @Test void messagesOfManyThreadsDoNotMix() throws Exception {
    ExecutorService executor = Executors.newFixedThreadPool(16);
    List<Future<?>> ends = new ArrayList<>();
    for (int i = 0; i < 16; ++i) {
      int me = i;
      ends.add(executor.submit(() -> {
        for (int k = 0; k < 200; ++k) {
          String path = "/nowhere/" + me + "-" + k;
          fails(Status.IO, path, () -> Model.open(Path.of(path)));
        }
      }));
    }
    for (Future<?> end : ends) end.get();
    executor.shutdown();
  }
}
