import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import infini.ChatMessage;
import infini.Infini;
import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Snapshot;
import infini.SnapshotInfo;
import infini.Status;
import infini.Task;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the Java package promises. */
class InfiniTest extends Support {
  @Test void goldenTranscript() throws IOException {
    try (Model model = open(); Session session = model.newSession(greedy())) {
      assertEquals(golden(), transcript(session));
    }
  }

  @Test void statusesAreThoseOfTheHeader() throws IOException {
    String header = Files.readString(SOURCE.resolve("capi/infini.h"));
    int begin = header.indexOf("enum infini_status {");
    String statuses = header.substring(begin, header.indexOf('}', begin));
    for (Status status : Status.values()) {
      if (status == Status.UNKNOWN) continue;
      assertTrue(statuses.lines().anyMatch(line -> line.matches("  INFINI_" + status + " = " + status.code() + ",? .*")), status + "");
    }
    long inHeader = statuses.lines().filter(line -> line.matches("  INFINI_[A-Z_]+ = [0-9]+,? .*")).count();
    assertEquals(inHeader, Status.values().length - 1 + 2); // OK and END are no exceptions
  }

  @Test void exceptionsCarryStatusAndMessage() {
    fails(Status.IO, "/nowhere/😀.gguf", () -> Model.open(Path.of("/nowhere/😀.gguf")));
    fails(Status.UNKNOWN_OPTION, "max_tokens", () -> new Options().set("no such", 1));
    fails(Status.INVALID_ARGUMENT, "threads", () -> new Options().set("threads", -7));
    fails(Status.INVALID_ARGUMENT, "", () -> Model.create("{", null, null));
    assertThrows(IllegalArgumentException.class, () -> Model.create("a\0b", null, null));
    try (Model model = open(); Session session = model.newSession(greedy())) {
      fails(Status.STATE, "", session::nextText);
      fails(Status.STATE, "", session::logits);
      fails(Status.INVALID_ARGUMENT, "999999", () -> session.feed(new int[] {1, 999999}));
      fails(Status.INVALID_ARGUMENT, "layers", () -> model.info("nothing of the kind"));
      fails(Status.UNSUPPORTED, "chat template", () -> model.applyChat(List.of(ChatMessage.user("Hi")), true, true));
      assertThrows(IllegalArgumentException.class, () -> session.feed("half a pair: \uD83D"));
      assertThrows(NullPointerException.class, () -> session.feed((String) null));
      fails(Status.INVALID_ARGUMENT, "3",
          () -> session.feed(new ByteArrayInputStream(new byte[] {'a', 'b', 'c', (byte) 0xff}), null));
    }
  }

  @Test void unicodeBeyondTheBasicPlane(@TempDir Path folder) {
    try (Model model = open()) {
      for (String text : List.of("😀", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🏳️‍🌈 and 漢字", "zero \0 character", "e\u0301")) {
        int[] tokens = model.tokenize(text, false, true);
        assertEquals(tokens.length, model.tokenCount(text, false, true));
        assertEquals(text, model.detokenize(tokens, false, true));
        assertArrayEquals(text.getBytes(StandardCharsets.UTF_8), model.detokenizeBytes(tokens, false, true));
      }
      Path path = folder.resolve("😀 模型.gguf");
      model.save(path, null);
      try (Model again = Model.open(path)) {
        assertEquals(model.info("fingerprint"), again.info("fingerprint"));
      }
      Model.quantize(path, path, "q8_0", null, null);
      try (Model small = Model.open(path)) {
        assertTrue(small.info("tensor_types").contains("\"Q8_0\""));
      }
      fails(Status.INVALID_ARGUMENT, "IQ4_XS", () -> Model.quantize(path, path, "q9", null, null));
    }
  }

  @Test void emptyAndHugeInputs() throws IOException {
    try (Model model = open(); Session session = model.newSession(greedy())) {
      session.feed(new int[0]);
      session.feed(InputStream.nullInputStream(), null);
      assertEquals(0, session.position());
      assertEquals(0, model.tokenize("", false, false).length);
      assertEquals("", model.detokenize(new int[0], false, false));
      String huge = "All work and no play makes Jack 😀 a dull boy.\n".repeat(200000);
      assertEquals(huge, model.detokenize(model.tokenize(huge, false, true), false, true));
      byte[] novel = Arrays.copyOf(Files.readAllBytes(SOURCE.resolve("samples/texts/wuthering_heights.txt")), 100000);
      session.feed(new ByteArrayInputStream(novel), null);
      assertTrue(session.position() > novel.length / 8, "position " + session.position());
    }
  }

  @Test void numbers() {
    try (Model model = open(); Session session = model.newSession(greedy())) {
      int[] tokens = model.tokenize("Once upon a time there was", false, true);
      float[] rows = session.feedLogits(tokens, null);
      assertEquals(512, model.vocabulary());
      assertEquals(64, model.width());
      assertEquals(512 * tokens.length, rows.length);
      assertArrayEquals(Arrays.copyOfRange(rows, rows.length - 512, rows.length), session.logits(), 1e-6f);
      assertEquals(64, session.embedding().length);
      session.reset();
      float[] nll = session.score(tokens, null);
      assertTrue(Float.isNaN(nll[0]));
      double sum = 0;
      for (int i = 1; i < nll.length; ++i) sum += nll[i];
      session.reset();
      Session.Score score = session.score("Once upon a time there was", null);
      assertEquals(tokens.length - 1, score.scored());
      assertEquals(sum, score.nll(), 1e-3);
      session.closeSegment();
      assertEquals(0, session.segmentPosition());
      assertTrue(session.memoryTokens() >= 0);
      assertTrue(Infini.version().matches("[0-9]+\\.[0-9]+\\.[0-9]+"));
      assertEquals(1, model.bos());
      assertEquals(2, model.eos());
      assertTrue(model.isEnd(2));
      assertTrue(model.isControl(1));
      assertFalse(model.isEnd(300));
      Infini.nextLog().ifPresent(record -> assertFalse(record.message().isEmpty()));
    }
  }

  @Test void optionsRememberWhatWasSet() {
    try (Options options = new Options().set("threads", 3).set("temperature", 0.5).set("stop", "😀")) {
      assertEquals(3, options.getInt("threads"));
      assertEquals(0.5, options.getDouble("temperature"));
      assertEquals("😀", options.getString("stop"));
      options.close();
      options.close();
      closed(() -> options.set("threads", 1));
    }
  }

  @Test void forkGoesOnAlike() {
    try (Model model = open(); Session session = model.newSession(greedy())) {
      session.feed("The cat 😀");
      try (Session fork = session.fork()) {
        assertEquals(session.generate().toList(), fork.generate().toList());
      }
    }
  }

  @Test void snapshotsGoOnAlike(@TempDir Path folder) {
    try (Model model = open(); Session session = model.newSession(greedy())) {
      session.feed("The cat 😀");
      Path path = folder.resolve("😀.snapshot");
      session.save(path, false, "cat 😀", "a note", null);
      Snapshot snapshot = session.snapshot(false, "cat 😀", "a note", null);
      SnapshotInfo info = snapshot.inspect(true);
      assertEquals(info, Snapshot.inspect(path, true));
      assertEquals(List.of("session", "cat 😀", "a note", "stories260K"),
          List.of(info.kind(), info.name(), info.note(), info.model()));
      assertEquals(session.position(), info.position());
      assertEquals(snapshot.toByteArray().length, info.size());
      assertEquals("memory", info.sections().get(0).name());
      try (Task task = new Task()) {
        assertEquals(info, snapshot.inspect(true, task));
        assertEquals("inspect", task.stage());
        task.cancel();
        fails(Status.CANCELLED, "", () -> Snapshot.inspect(path, true, task));
      }
      List<String> text = session.generate().toList();
      byte[] damaged = snapshot.toByteArray();
      damaged[damaged.length / 2] ^= 1;
      try (Session again = model.newSession(greedy())) {
        again.restore(path, null);
        assertEquals(text, again.generate().toList());
        again.restore(Snapshot.of(snapshot.asByteBuffer()), null);
        assertEquals(text, again.generate().toList());
        long position = again.position();
        fails(Status.CHECKSUM, "", () -> again.restore(Snapshot.of(damaged), null));
        assertEquals(position, again.position());
        again.restore(again.snapshot(true, "", "", null), null);
        fails(Status.STATE, "", again::nextText);
      }
      try (Model other = Model.create("{\"layers\": 1}", null, null); Session stranger = other.newSession()) {
        fails(Status.MODEL_MISMATCH, "", () -> stranger.restore(snapshot, null));
      }
      fails(Status.IO, "/nowhere/x", () -> session.save(Path.of("/nowhere/x")));
    }
  }

  @Test void rewind() {
    try (Model model = open(); Session session = model.newSession(greedy())) {
      session.feed("The cat sat on");
      long position = session.position();
      session.feed(" the mat");
      session.rewind(position);
      assertEquals(position, session.position());
      assertTrue(session.rewindLimit() <= position);
      fails(Status.STATE, "", () -> session.rewind(position + 1000));
    }
  }

  @Test void tokensAndRuns() {
    try (Model model = open(); Session session = model.newSession(greedy().set("max_tokens", 5))) {
      session.feed("Once");
      for (int run = 0; run < 2; ++run) {
        List<Integer> tokens = new ArrayList<>();
        for (int token : session.tokens()) tokens.add(token);
        assertEquals(5, tokens.size());
        assertEquals("max_tokens", session.stopReason());
      }
      session.next();
      session.startGeneration();
      assertEquals("none", session.stopReason());
      session.setOptions(new Options().set("max_tokens", 2));
      assertEquals(-1, Stream.generate(session::next).limit(3).reduce((a, b) -> b).get());
      assertEquals(2, Stream.generate(session::nextText).takeWhile(text -> text != null).limit(2).count());
    }
  }

  @Test void tasksShowProgressAndCancel() throws Exception {
    ExecutorService executor = Executors.newSingleThreadExecutor();
    int[] tokens = new int[2000000];
    Arrays.fill(tokens, 300);
    try (Model model = open(); Session session = model.newSession(greedy()); Task task = new Task()) {
      assertEquals("idle", task.stage());
      Future<?> feeding = executor.submit(() -> session.feed(tokens, task));
      while (task.done() == 0) Thread.sleep(1);
      assertEquals("feed", task.stage());
      assertEquals(tokens.length, task.total());
      task.cancel();
      ExecutionException e = assertThrows(ExecutionException.class, feeding::get);
      assertEquals(Status.CANCELLED, ((InfiniException) e.getCause()).status());
      assertEquals(task.done(), session.position());
      session.cancel(); // nothing runs, and what comes is not ended
      assertFalse(session.nextText().isEmpty());

      CompletableFuture<Void> future = Task.async(executor, t -> {
        session.feed(tokens, t);
        return null;
      });
      Thread.sleep(50);
      assertTrue(future.cancel(true));
      assertThrows(CancellationException.class, future::get);
      assertEquals(3, Task.async(executor, t -> 3).get(10, TimeUnit.SECONDS)); // the thread is free again
      assertTrue(session.position() < 2L * tokens.length);
      assertEquals(512, Task.async(executor, t -> Model.open(STORIES, null, t)).get().vocabulary());
    } finally {
      executor.shutdown();
    }
  }
}
