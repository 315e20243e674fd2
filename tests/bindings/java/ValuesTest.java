import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import infini.FileException;
import infini.Footprint;
import infini.Infini;
import infini.InfiniException;
import infini.Model;
import infini.ModelInfo;
import infini.OptionInfo;
import infini.Options;
import infini.Session;
import infini.SessionInfo;
import infini.Snapshot;
import infini.Status;
import infini.Trainer;
import java.lang.reflect.RecordComponent;
import java.net.URI;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/** What comes out as records, what options take, and what errors are. */
class ValuesTest extends Support {
  @Test void modelsTellWhatTheyAre() {
    try (Model model = open()) {
      ModelInfo info = model.info();
      assertEquals("stories260K", info.name());
      assertEquals(512, info.vocabulary());
      assertEquals(List.of(5, 64, 8, 4), List.of(info.layers(), info.width(), info.heads(), info.kvHeads()));
      assertEquals(260032, info.parameters());
      assertEquals("f32", info.compute());
      assertEquals(1e-6, info.epsilon());
      assertFalse(info.trainedMemory());
      assertNull(info.chatTemplate());
      assertTrue(info.json().startsWith("{\"name\":\"stories260K\""));
      Footprint footprint = model.footprint(1000);
      assertEquals(1000, footprint.tokens());
      assertEquals(new Footprint.Method("kv_cache", 320000, 1280000), footprint.methods().get(0));
      long memory = footprint.methods().get(4).bytes();
      assertTrue(footprint.windowBytes() > 0 && footprint.sessionBytes() > memory + footprint.windowBytes());
      assertEquals(5, Infini.paperFootprint(65000).methods().size());
    }
    try (Model odd = Model.create("{\"layers\": 1, \"name\": \"\\\"😀\\\\\\n\\u0001\"}", null, null)) {
      assertEquals("\"😀\\\n\u0001", odd.info().name());
      assertNull(odd.info().tokenizer());
    }
  }

  @Test void sessionsTellTheirNumbers() {
    try (Model model = open(); Session session = model.newSession(new Options().set("checkpoints", 2).set("temperature", 0.5))) {
      session.feed("One day Lily met a dog. ".repeat(100));
      SessionInfo info = session.info();
      assertEquals(session.position(), info.position());
      assertEquals(session.segmentPosition(), info.segmentPosition());
      assertEquals(session.rewindLimit(), info.rewindLimit());
      assertEquals(2, info.boundaries().size());
      assertEquals(info.rewindLimit(), info.boundaries().get(0));
      assertEquals("none", info.stopReason());
      assertEquals(Map.of("checkpoints", 2L, "temperature", 0.5), info.options());
      assertTrue(info.stateBytes() > 0 && info.sessionBytes() > info.workspaceBytes());
    }
  }

  @Test void recordsHaveAllThatTheLibraryWrites() {
    try (Model model = open(); Session session = model.newSession()) {
      session.feed("One day Lily met a dog.");
      hasAll(ModelInfo.class, model.info().json());
      hasAll(SessionInfo.class, session.info().json());
      assertEquals(List.of(), session.info().kept());
      assertEquals(0, session.info().windowBegin());
    }
  }

  /** A record has the members of a JSON object, by Java's names, and the object itself. */
  private static void hasAll(Class<? extends Record> record, String json) {
    Set<String> names = new TreeSet<>(Set.of("json"));
    int depth = 0;
    for (int at = 0; at < json.length(); ++at) {
      char c = json.charAt(at);
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      if (c != '"') continue;
      int begin = at + 1;
      for (++at; json.charAt(at) != '"'; ++at) if (json.charAt(at) == '\\') ++at;
      if (depth != 1 || json.charAt(at + 1) != ':') continue;
      names.add(Pattern.compile("_(.)").matcher(json.substring(begin, at)).replaceAll(found -> found.group(1).toUpperCase(Locale.ROOT)));
    }
    assertEquals(names, Arrays.stream(record.getRecordComponents()).map(RecordComponent::getName).collect(Collectors.toCollection(TreeSet::new)));
  }

  @Test void optionsAreDocumented() {
    Map<String, OptionInfo> options = Infini.options().stream().collect(Collectors.toMap(OptionInfo::name, option -> option));
    OptionInfo threads = options.get("threads");
    assertEquals(List.of("int", 0L, 0L, 1024L), List.of(threads.type(), threads.standard(), threads.least(), threads.greatest()));
    assertEquals(1.0, options.get("top_p").standard());
    assertEquals(List.of("model", "session", "generation", "any"), List.of("compute", "chunk", "seed", "threads").stream()
        .map(name -> options.get(name).scope()).toList());
    try (Model model = open()) {
      fails(Status.INVALID_ARGUMENT, "compute", () -> model.newSession(computing()));
      fails(Status.INVALID_ARGUMENT, "max_tokens", () -> Model.open(STORIES, greedy()));
    }
    assertEquals(List.of("auto", "f32", "bf16", "int8"), options.get("compute").choices());
    assertEquals(List.of(), options.get("stop").choices());
    assertNull(options.get("stop").least());
    assertTrue(options.values().stream().noneMatch(option -> option.help().isEmpty()));
  }

  @Test void switchesAndLists() {
    List<String> stops = List.of("a\nb", "\\n", "c\\", "😀", "");
    try (Model model = open(); Options options = new Options().set("deterministic", true).set("ignore_end", false).set("stop", stops);
         Session session = model.newSession(options)) {
      assertEquals(1, options.getInt("deterministic"));
      assertTrue(options.getBoolean("deterministic"));
      assertFalse(options.getBoolean("ignore_end"));
      assertEquals(List.of("a\nb", "\\n", "c\\", "😀"), options.getList("stop"));
      session.feed("Once upon a time");
      String text = session.generate().collect(Collectors.joining());
      session.reset();
      session.setOptions(new Options().set("stop", List.of("no such", text.substring(5, 9))));
      session.feed("Once upon a time");
      assertEquals(text.substring(0, text.indexOf(text.substring(5, 9))), String.join("", session.texts()));
      assertEquals("stop_string", session.stopReason());
    }
  }

  private static void missing(Executable call) {
    FileException e = assertThrows(FileException.class, call);
    assertEquals(Status.IO, e.status());
    assertInstanceOf(NoSuchFileException.class, e.getCause(), e.toString());
  }

  @Test void missingFilesCanBeTold(@TempDir Path folder) throws Exception {
    Path missing = folder.resolve("😀");
    Path inside = missing.resolve("file");
    try (Model model = open(); Session session = model.newSession(); Trainer trainer = model.newTrainer("{\"data\": {\"type\": \"random\"}}")) {
      missing(() -> Model.open(missing));
      missing(() -> Model.create("{\"tokenizer\": \"/nowhere/x\"}", null, null));
      missing(() -> session.restore(missing, null));
      missing(() -> Snapshot.inspect(missing, false));
      missing(() -> trainer.restore(missing, null));
      missing(() -> session.save(inside));
      missing(() -> model.save(inside, null));
      missing(() -> trainer.save(inside, null));
      missing(() -> trainer.write(inside, "f32", null));
      FileException e = assertThrows(FileException.class, () -> Model.open(folder));
      assertEquals(Status.IO, e.status());
      assertNull(e.getCause(), "it is there");
      Path secret = Files.createFile(folder.resolve("secret"), PosixFilePermissions.asFileAttribute(Set.of()));
      if (!Files.isReadable(secret)) { // not to root
        assertInstanceOf(AccessDeniedException.class, assertThrows(FileException.class, () -> Model.open(secret)).getCause());
      }
      Path text = Files.writeString(folder.resolve("text"), "no model");
      e = assertThrows(FileException.class, () -> Model.open(text));
      assertFalse(e.status() == Status.IO);
      assertNotNull(assertThrows(FileException.class, () -> session.restore(Snapshot.of(new byte[100]), null)).getMessage());
      assertEquals(InfiniException.class, assertThrows(InfiniException.class, () -> new Options().set("no such", 1)).getClass());
      URI zip = URI.create("jar:" + folder.resolve("zip").toUri());
      try (FileSystem other = FileSystems.newFileSystem(zip, Map.of("create", "true"))) {
        assertThrows(IllegalArgumentException.class, () -> Model.open(other.getPath("/model")));
      }
    }
  }
}
