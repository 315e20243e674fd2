import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import infini.CancelledException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Snapshot;
import infini.Task;
import infini.Trainer;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.Reader;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** How long calls end, and how far they say they have come. */
class CancelTest extends Support {
  private static final long SOON = 5; // seconds
  private static final Path NOVEL = SOURCE.resolve("samples/texts/wuthering_heights.txt");

  /** A call on a thread of its own, of which the test wants to see it cancelled. */
  private static final class Call {
    final FutureTask<?> future;
    final Thread thread;

    Call(Callable<?> body) {
      future = new FutureTask<>(body);
      thread = new Thread(future);
      thread.setDaemon(true);
      thread.start();
    }

    void isCancelled() {
      Throwable cause = assertThrows(ExecutionException.class, () -> future.get(SOON, TimeUnit.SECONDS)).getCause();
      assertEquals(CancelledException.class, cause.getClass(), cause.toString());
    }

    /** The same where closing the session may also have come before it. */
    void isCancelledOrRefused() {
      Throwable cause = assertThrows(ExecutionException.class, () -> future.get(SOON, TimeUnit.SECONDS)).getCause();
      if (!(cause instanceof IllegalStateException)) assertEquals(CancelledException.class, cause.getClass(), cause.toString());
    }
  }

  /** Waits until a session goes on: it never waits for a turn. */
  private static void moves(Session session) throws InterruptedException {
    long from = session.position();
    for (int i = 0; session.position() <= from; ++i) {
      assertTrue(i < 5000, "nothing is read");
      Thread.sleep(1);
    }
  }

  /** A session that generates for ever, and no text: its only token is a control token. */
  private static Session silent(Model model) {
    Options options = new Options().set("threads", 1).set("max_tokens", -1).set("ignore_end", true)
        .set("logit_bias", "1:10000");
    Session session = model.newSession(options);
    session.feed("Once upon a time");
    return session;
  }

  @Test void pullsHearATaskWhileNoTextComes() throws Exception {
    try (Model model = open(); Session session = silent(model); Task task = new Task()) {
      for (Callable<?> pull : List.<Callable<?>>of(() -> session.nextText(task), () -> session.generate(task).count(),
          () -> session.texts(task).iterator().next())) {
        Call call = new Call(pull);
        moves(session);
        assertEquals("generate", task.stage());
        task.cancel();
        call.isCancelled();
      }
      task.cancel(); // a cancel stays until a call takes it
      long position = session.position();
      assertThrows(CancelledException.class, () -> session.next(task));
      assertEquals(position, session.position());
      assertEquals(1, session.next(task));
    }
  }

  @Test void pullsHearTheSessionAndItsEnd() throws Exception {
    try (Model model = open(); Session session = silent(model)) {
      Call call = new Call(session::nextText);
      moves(session);
      session.cancel();
      call.isCancelled();
      session.cancel(); // nothing runs: nothing happens
      assertEquals(1, session.next());
      call = new Call(session::nextText);
      moves(session);
      session.close();
      call.isCancelled();
    }
  }

  @Test void closingEndsACallThatBegins() throws Exception {
    try (Model model = open(); Task task = new Task()) {
      for (int round = 0; round < 400; ++round) {
        Session session = silent(model);
        Task given = round % 2 == 0 ? null : task;
        Call call = new Call(() -> session.nextText(given));
        for (long until = System.nanoTime() + round * 500; System.nanoTime() < until;) Thread.onSpinWait();
        session.close();
        call.isCancelledOrRefused();
      }
    }
  }

  @Test void interruptionsAreHeard(@TempDir Path folder) throws Exception {
    Path path = folder.resolve("snapshot");
    try (Model model = open(); Session session = silent(model); Session other = silent(model); Task task = new Task()) {
      for (Task given : new Task[] {null, task}) {
        for (Callable<?> pull : List.<Callable<?>>of(() -> session.nextText(given), () -> session.score(new int[5000000], given),
            () -> {
              session.feed(new int[5000000], given);
              return null;
            })) {
          Call call = new Call(() -> {
            try {
              return pull.call();
            } catch (CancelledException e) {
              assertTrue(Thread.interrupted());
              throw e;
            }
          });
          moves(session);
          call.thread.interrupt();
          call.isCancelled();
          assertTrue(session.next(given) >= 0); // the next call is not ended
        }
      }
      Call busy = new Call(session::nextText);
      moves(session);
      Call waiting = new Call(session::logits); // for its turn
      Thread.sleep(20);
      waiting.thread.interrupt();
      waiting.isCancelled();
      for (Callable<?> late : List.<Callable<?>>of(() -> session.nextText(task), () -> {
        session.feed(NOVEL, task);
        return null;
      })) {
        waiting = new Call(late);
        Thread.sleep(20);
        task.cancel();
        waiting.isCancelled();
        assertFalse(busy.future.isDone());
      }
      session.cancel();
      busy.isCancelled();
      Snapshot taken = session.snapshot();
      Path file = Files.createTempFile("infini", ".gguf");
      try (Model small = Model.create("{\"layers\": 1}", null, null);
          Trainer trainer = small.newTrainer("{\"data\": {\"type\": \"random\"}}")) {
        for (Runnable call : List.<Runnable>of(() -> session.snapshot(false, "", "", task), () -> session.restore(taken, task),
            () -> session.merge(taken, 1, task), () -> Model.create("{}", null, task), () -> trainer.save(file, task),
            () -> trainer.restore(file, task), () -> trainer.write(file, "f32", task),
            () -> small.newTrainer("{\"data\": {\"type\": \"random\"}}", null, task))) {
          task.cancel();
          assertThrows(CancelledException.class, call::run);
        }
      }
      assertEquals(0, Files.size(file)); // as it was
      Files.delete(file);
      Thread.currentThread().interrupt();
      assertThrows(CancelledException.class, () -> session.next());
      assertThrows(CancelledException.class, () -> Model.open(STORIES));
      session.save(path); // what is to be kept is kept
      assertTrue(Thread.interrupted());
      other.restore(path, task);
      assertEquals(session.position(), other.position());
    }
  }

  /** A text of which only a beginning has come. */
  private static final class Stalled extends InputStream {
    private boolean given;
    volatile boolean more;

    @Override public int read() {
      throw new UnsupportedOperationException();
    }

    @Override public int read(byte[] bytes, int offset, int length) throws IOException {
      try {
        while (given && !more) Thread.sleep(1);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      given = true;
      bytes[offset] = 'a';
      return 1;
    }
  }

  @Test void aStreamHearsACancelBetweenItsPieces() throws Exception {
    try (Model model = open(); Session session = model.newSession(); Task task = new Task()) {
      for (Runnable cancel : List.<Runnable>of(task::cancel, session::cancel, session::close)) {
        Stalled text = new Stalled();
        Call call = new Call(() -> {
          session.feed(text, task);
          return null;
        });
        while (!task.stage().equals("feed") || !text.given) Thread.sleep(1);
        cancel.run();
        text.more = true; // less than a piece, again and again
        call.isCancelled();
        assertTrue(task.done() < 10);
      }
    }
    try (Model model = open(); Session session = model.newSession(); Task task = new Task()) {
      task.cancel();
      assertThrows(CancelledException.class, () -> session.feed(NOVEL, task));
      assertEquals(0, session.position());
      Call call = new Call(() -> {
        session.feed(NOVEL, null);
        return null;
      });
      moves(session);
      session.cancel();
      call.isCancelled();
      long position = session.position();
      session.feed(InputStream.nullInputStream(), task); // no cancel is left
      session.feed("a", task);
      assertTrue(session.position() > position);
      call = new Call(() -> {
        session.feed(NOVEL, null);
        return null;
      });
      moves(session);
      call.thread.interrupt();
      call.isCancelled();
    }
  }

  /** Polls while a call runs. Progress never goes back, and its total stays. */
  private static List<Long> progress(Task task, long total, Callable<?> body) throws Exception {
    List<Long> seen = new ArrayList<>();
    Call call = new Call(body);
    while (!call.future.isDone()) {
      long done = task.done();
      if (done == 0) continue; // perhaps not begun
      assertEquals("feed", task.stage());
      assertEquals(total, task.total());
      assertTrue(seen.isEmpty() || done >= seen.get(seen.size() - 1), done + " after " + seen);
      seen.add(done);
      Thread.sleep(0, 200000);
    }
    call.future.get();
    return seen;
  }

  @Test void progressOfAStreamIsThatOfTheWhole(@TempDir Path folder) throws Exception {
    byte[] novel = Files.readAllBytes(NOVEL);
    String text = "😀" + new String(novel, 0, 150000, StandardCharsets.UTF_8);
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    Path file = Files.write(folder.resolve("text"), bytes);
    try (Model model = open(); Session session = model.newSession(greedy()); Task task = new Task()) {
      List<Long> seen = progress(task, bytes.length, () -> {
        session.feed(file, task);
        return null;
      });
      assertTrue(seen.size() > 20 && seen.get(0) < 65536, seen.toString());
      assertEquals(bytes.length, task.done());
      float[] logits = session.logits();
      for (int way = 0; way < 2; ++way) {
        session.reset();
        Reader reader = new StringReader(text);
        InputStream in = new ByteArrayInputStream(bytes);
        int chosen = way;
        try (Task another = new Task()) {
          progress(another, 0, () -> {
            if (chosen == 0) session.feed(reader, another);
            else session.feed(in, another);
            return null;
          });
          assertEquals(bytes.length, another.done());
        }
        assertArrayEquals(logits, session.logits(), 1e-3f);
      }
      session.feed(new int[] {1, 300, 301}, task); // another call's is that call's
      assertEquals(3, task.done());
      assertEquals(3, task.total());
      assertThrows(IllegalArgumentException.class, () -> session.feed(new StringReader("half a pair: \uD83D"), null));
      assertThrows(NoSuchFileException.class, () -> session.feed(Path.of("/nowhere/text"), null));
    }
  }

  @Test void aBusySessionTellsItsPosition() throws Exception {
    try (Model model = open(); Session session = model.newSession(greedy()); Task task = new Task()) {
      Call call = new Call(() -> {
        session.feed(new int[5000000], task);
        return null;
      });
      moves(session);
      moves(session);
      assertFalse(call.future.isDone());
      session.cancel();
      call.isCancelled();
      assertNull(session.info().options().get("stop"));
    }
  }
}
