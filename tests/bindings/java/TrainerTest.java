import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Status;
import infini.Task;
import infini.Trainer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What trainers promise. System property `training` is what the C program training.c printed on this machine. */
class TrainerTest extends Support {
  private static final String RANDOM = "{\"type\": \"random\"}";

  private static Model tiny(int layers) {
    return Model.create("{\"layers\": " + layers + ", \"width\": 32, \"heads\": 2, \"kv_heads\": 2, \"hidden\": 64,"
        + " \"segment\": 16, \"tokenizer\": \"" + STORIES + "\"}", computing(), null);
  }

  private static String text(Path file) {
    return "{\"type\": \"text\", \"files\": [\"" + file + "\"]}";
  }

  private static String description(String part) {
    return "{\"training\": {\"train\": \"" + part + "\", \"tokens\": 512, \"segments\": 4, \"rate\": 0.01, \"warmup\": 0},"
        + " \"data\": " + text(SOURCE.resolve("tests/bindings/golden.txt")) + "}";
  }

  private static Trainer trainer(Model model, String part) {
    return model.newTrainer(description(part), computing(), null);
  }

  /** The JSON of a report without the times at its end. */
  private static String timeless(String json) {
    return json.contains(",\"seconds\"") ? json.substring(0, json.indexOf(",\"seconds\"")) : json;
  }

  private static String tell(Model model) {
    try (Session session = model.newSession(greedy())) {
      session.feed("Once upon a time");
      return session.generate().collect(Collectors.joining());
    }
  }

  @Test void everyLanguageTrainsAlike(@TempDir Path folder) throws IOException {
    StringBuilder out = new StringBuilder();
    Path path = folder.resolve("trained.gguf");
    try (Model model = tiny(2); Trainer trainer = trainer(model, "all")) {
      trainer.step();
      out.append(timeless(trainer.reportJson())).append('\n');
      trainer.run(79, null);
      out.append(timeless(trainer.reportJson())).append('\n');
      out.append(trainer.evaluate(RANDOM, 2, 3, null).json()).append('\n');
      trainer.write(path, "f32", null);
    }
    try (Model trained = Model.open(path, computing())) {
      out.append(trained.info("fingerprint")).append('\n').append(tell(trained)).append('\n');
    }
    assertEquals(Files.readString(Path.of(System.getProperty("training"))), out.toString());
  }

  @Test void learnsByHeart(@TempDir Path folder) {
    try (Model model = tiny(2); Trainer trainer = trainer(model, "all")) {
      assertEquals("{}", trainer.reportJson());
      assertEquals(0, trainer.report().step());
      assertTrue(Double.isNaN(trainer.report().loss()));
      Trainer.Report first = trainer.step();
      assertEquals(1, first.step());
      assertEquals(512, first.tokens());
      assertEquals(4, first.segments());
      assertEquals(16, first.segment());
      assertEquals(0, first.answersAcross());
      assertTrue(Double.isNaN(first.recallAcross()) && Double.isNaN(first.recallInside()));
      assertTrue(first.gradientNorm() > 0 && first.seconds() > 0 && first.tokensPerSecond() > 0, first.toString());
      assertEquals(1, first.rateFactor());
      Trainer.Report last = trainer.run(99, null);
      assertEquals(last, trainer.report());
      Trainer.Info info = trainer.info();
      assertEquals(List.of(100L, 51200L, 512L), List.of(info.steps(), info.tokens(), info.training().get("tokens")));
      assertTrue(info.bytes() > 4 * info.trainedParameters() && info.json().contains("\"gates\""), info.json());
      assertTrue(first.loss() > 5 && last.loss() < 0.5, first + " " + last);

      Trainer.Evaluation evaluation = trainer.evaluate(text(SOURCE.resolve("tests/bindings/golden.txt")), 3, 0, null);
      assertTrue(evaluation.loss() < 0.5 && Double.isNaN(evaluation.recallAcross()), evaluation.toString());
      assertEquals(3, evaluation.sequences());
      assertEquals(4, evaluation.segments());
      assertEquals(2 * (3 * 16 - 1), trainer.evaluate(RANDOM, 2, 3, null).predictions());

      for (String type : new String[] {"f32", "f16", "bf16"}) {
        Path path = folder.resolve("😀 " + type + ".gguf");
        trainer.write(path, type, null);
        try (Model trained = Model.open(path, computing())) {
          assertTrue(tell(trained).startsWith("\n, there was a little girl named Lily."), tell(trained));
        }
      }
      assertFalse(tell(model).contains("Lily")); // it stays as it was
    }
  }

  @Test void cancelLeavesItUsable() throws Exception {
    ExecutorService executor = Executors.newSingleThreadExecutor();
    try (Model model = tiny(2); Trainer trainer = trainer(model, "all"); Task task = new Task()) {
      Future<?> running = executor.submit(() -> trainer.run(1 << 30, task));
      while (task.done() < 3) Thread.sleep(1);
      assertEquals("train", task.stage());
      assertEquals(1 << 30, task.total());
      task.cancel();
      ExecutionException e = assertThrows(ExecutionException.class, running::get);
      assertEquals(Status.CANCELLED, ((InfiniException) e.getCause()).status());
      long done = trainer.report().step();
      assertEquals(task.done(), done);
      assertEquals(done + 1, trainer.step(task).step());
      assertEquals(done + 3, trainer.run(2, task).step());
      task.cancel();
      fails(Status.CANCELLED, "", () -> trainer.step(task));
      fails(Status.CANCELLED, "", () -> {
        task.cancel();
        trainer.evaluate(RANDOM, 1, 1, task);
      });

      CompletableFuture<Trainer.Report> future = Task.async(executor, t -> trainer.run(1 << 30, t));
      Thread.sleep(20);
      assertTrue(future.cancel(true));
      assertThrows(CancellationException.class, future::get);
      assertTrue(Task.async(executor, t -> trainer.run(1, t)).get(60, TimeUnit.SECONDS).step() > done + 3);
    } finally {
      executor.shutdown();
    }
  }

  @Test void restoredItGoesOnWithTheSameBits(@TempDir Path folder) throws IOException {
    Path path = folder.resolve("😀.checkpoint");
    try (Model model = tiny(2); Trainer trainer = trainer(model, "all"); Trainer twin = trainer(model, "all")) {
      trainer.run(5, null);
      trainer.save(path, null);
      twin.restore(path, null);
      assertEquals(5, twin.info().steps());
      assertEquals(trainer.run(5, null).loss(), twin.run(5, null).loss());
      assertEquals(timeless(trainer.reportJson()), timeless(twin.reportJson()));

      byte[] damaged = Files.readAllBytes(path);
      damaged[damaged.length / 2] ^= 1;
      Path other = folder.resolve("damaged");
      Files.write(other, damaged);
      fails(Status.CHECKSUM, "damaged", () -> twin.restore(other, null));
      fails(Status.IO, "/nowhere/x", () -> twin.restore(Path.of("/nowhere/x"), null));
      fails(Status.IO, "/nowhere/x", () -> twin.save(Path.of("/nowhere/x"), null));
      assertEquals(trainer.step().loss(), twin.step().loss()); // nothing has changed
      try (Model stranger = tiny(1); Trainer ofStranger = trainer(stranger, "all"); Trainer lora = trainer(model, "lora")) {
        fails(Status.MODEL_MISMATCH, "", () -> ofStranger.restore(path, null));
        fails(Status.MODEL_MISMATCH, "", () -> lora.restore(path, null));
      }
    }
  }

  @Test void adapters(@TempDir Path folder) throws IOException {
    Path path = folder.resolve("adapter.gguf");
    try (Model model = tiny(2); Trainer lora = trainer(model, "lora"); Trainer all = trainer(model, "all")) {
      double first = lora.step().loss();
      assertTrue(lora.run(20, null).loss() < first);
      lora.writeAdapter(path, null);
      Path merged = folder.resolve("merged.gguf");
      lora.write(merged, "f32", null);
      assertTrue(Files.size(path) > 1000 && Files.size(path) < Files.size(merged));
      Model.open(merged).close();
      fails(Status.STATE, "LoRA", () -> all.writeAdapter(path, null));
    }
  }

  @Test void findsHeadsAndFitsOthers() {
    String recall = "{\"type\": \"recall\", \"density\": [40, 40]}";
    String taught = "{\"training\": {\"train\": \"retrieval\", \"supervised\": [[1, 0, 0], [1, 1, 0]], \"tokens\": 512, \"segments\": 8},"
        + " \"data\": " + recall + "}";
    try (Model model = Model.create("{\"layers\": 2, \"width\": 32, \"heads\": 4, \"kv_heads\": 2, \"hidden\": 32, \"segment\": 32,"
            + " \"tokenizer\": \"" + SOURCE.resolve("samples/models/words2048.gguf") + "\"}", computing(), null);
        Trainer trainer = model.newTrainer(taught, computing(), null); Trainer all = trainer(model, "all"); Task task = new Task()) {
      String found = trainer.findHeads(recall, 2, 0, task);
      assertTrue(found.startsWith("{\"heads\":[{\"layer\":"), found);
      assertEquals("find heads", task.stage());
      trainer.fitHeads(8, task);
      assertEquals("fit heads", task.stage());
      Trainer.Report report = trainer.step();
      assertTrue(report.sourceShare() >= 0 && report.sourceShare() <= 1, report.toString());
      assertTrue(Double.isNaN(report.subjectShare()), "no local attention is supervised");
      fails(Status.STATE, "step", () -> trainer.fitHeads(8, null));
      fails(Status.INVALID_ARGUMENT, "nats", () -> trainer.fitHeads(0, null));
      fails(Status.INVALID_ARGUMENT, "[layer, head, offset]", () -> all.fitHeads(8, null));
      fails(Status.INVALID_ARGUMENT, "answer", () -> trainer.findHeads(RANDOM, 1, 8, null));
    }
  }

  @Test void errorsNameWhatIsWrong() {
    try (Model model = tiny(2); Model noTokenizer = Model.create("{\"layers\": 1}", null, null)) {
      assertTrue(Trainer.settingsJson().startsWith("[{\"name\":\"training\""));
      assertTrue(Model.creationSettingsJson().contains("\"name\":\"layers\""));
      assertTrue(Model.keepSettingsJson().contains("\"name\":\"pieces\""));
      fails(Status.STATE, "keeps no sentences", () -> model.fitKeep("{\"pieces\": []}", Path.of("unused"), null));
      fails(Status.INVALID_ARGUMENT, "JSON", () -> model.newTrainer("{"));
      fails(Status.INVALID_ARGUMENT, "data", () -> model.newTrainer("{}"));
      fails(Status.INVALID_ARGUMENT, "rate",
          () -> model.newTrainer("{\"training\": {\"rate\": \"fast\"}, \"data\": {\"type\": \"random\"}}"));
      fails(Status.INVALID_ARGUMENT, "date", () -> model.newTrainer("{\"data\": {\"type\": \"random\"}, \"date\": 1}"));
      fails(Status.IO, "/nowhere/😀", () -> model.newTrainer("{\"data\": " + text(Path.of("/nowhere/😀")) + "}"));
      fails(Status.STATE, "tokenizer", () -> noTokenizer.newTrainer(description("all")));
      assertThrows(IllegalArgumentException.class, () -> model.newTrainer("a\0b"));
      try (Trainer trainer = trainer(model, "all")) {
        fails(Status.INVALID_ARGUMENT, "steps", () -> trainer.run(-1, null));
        fails(Status.INVALID_ARGUMENT, "sequences", () -> trainer.evaluate(RANDOM, 0, 1, null));
        fails(Status.INVALID_ARGUMENT, "share", () -> trainer.evaluate("{\"type\": \"random\", \"share\": 2}", 1, 1, null));
        fails(Status.INVALID_ARGUMENT, "q4", () -> trainer.write(Path.of("unused"), "q4", null));
        fails(Status.IO, "/nowhere/x", () -> trainer.write(Path.of("/nowhere/x"), "f16", null));
        assertEquals(0, trainer.run(0, null).step());
      }
    }
  }

  @Test void closingTwiceAndUseAfter() {
    Model model = tiny(2);
    Trainer trainer = trainer(model, "all");
    model.close();
    assertEquals(1, trainer.step().step()); // it keeps its model
    trainer.close();
    trainer.close();
    closed(trainer::step);
    closed(() -> trainer.run(1, new Task()));
    closed(trainer::report);
    closed(trainer::info);
    closed(() -> trainer.evaluate(RANDOM, 1, 1, null));
    closed(() -> trainer.save(Path.of("unused"), null));
    closed(() -> model.newTrainer(description("all")));
  }

  @Test void closeDuringCalls() throws Exception {
    ExecutorService executor = Executors.newFixedThreadPool(2);
    try (Model model = tiny(2)) {
      for (int round = 0; round < 20; ++round) {
        Trainer trainer = trainer(model, "all");
        Task task = round % 2 == 0 ? null : new Task();
        Future<?> running = executor.submit(() -> trainer.run(1 << 30, task));
        Future<?> waiting = executor.submit(() -> trainer.evaluate(RANDOM, 1 << 30, 1, null)); // or the other way round
        TimeUnit.MICROSECONDS.sleep(round * 300);
        if (task != null) task.close(); // the call that has it keeps it
        trainer.close();
        for (Future<?> end : new Future<?>[] {running, waiting}) {
          Throwable cause = assertThrows(ExecutionException.class, () -> end.get(60, TimeUnit.SECONDS)).getCause();
          if (cause instanceof InfiniException e) assertEquals(Status.CANCELLED, e.status());
          else assertTrue(cause.getMessage().endsWith(" is closed"), cause.toString());
        }
      }
    } finally {
      executor.shutdown();
    }
  }

  @Test void createCloseCyclesDoNotGrow() throws Exception {
    try (Model model = tiny(2); Options options = computing()) {
      String description = "{\"training\": {\"tokens\": 64, \"segments\": 4}, \"data\": " + RANDOM + "}";
      long before = 0;
      for (int i = 0; i < 250; ++i) {
        if (i == 50) before = resident();
        try (Trainer trainer = model.newTrainer(description, options, null)) {
          trainer.step();
        }
      }
      assertTrue(resident() - before < 48 << 20, "grew by " + (resident() - before)); // a trainer takes two
      for (int i = 0; i < 300; ++i) { // the last use of each is inside its own call
        model.newTrainer(description, options, null).step();
        if (i % 10 == 0) {
          System.gc();
          Thread.sleep(1);
        }
      }
      assertTrue(resident() - before < 256 << 20, "grew by " + (resident() - before));
    }
  }
}
