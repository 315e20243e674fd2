import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import infini.Adaptation;
import infini.InfiniException;
import infini.Model;
import infini.Status;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** stories260K learns to use its memory, for a few steps. */
class AdaptationTest extends Support {
  private static String settings(String more) {
    return "{\"texts\": [\"" + SOURCE.resolve("samples/texts/wuthering_heights.txt")
        + "\"], \"steps\": 4, \"segments\": 4, \"find_sequences\": 1" + more + "}";
  }

  @Test void adaptsAPlainModel(@TempDir Path folder) {
    Path path = folder.resolve("adapted.gguf");
    assertTrue(Adaptation.settingsJson().contains("\"name\":\"texts\""));
    try (Adaptation adaptation = Adaptation.open(STORIES, settings(""), computing(), null)) {
      assertEquals("{}", adaptation.reportJson());
      assertEquals(Status.STATE, assertThrows(InfiniException.class, () -> adaptation.write(path, null)).status());
      assertTrue(adaptation.step(null));
      assertTrue(adaptation.reportJson().startsWith("{\"phase\":\"find\""));
      adaptation.run(null);
      assertFalse(adaptation.step(null));
      assertTrue(adaptation.infoJson().contains("\"complete\":true"));
      adaptation.write(path, null);
    }
    try (Model adapted = Model.open(path)) {
      assertEquals("true", adapted.info("trained_memory"));
    }
  }

  @Test void goesOnFromWhatWasKept(@TempDir Path folder) {
    String settings = settings(", \"checkpoint\": \"" + folder.resolve("kept") + "\"");
    try (Adaptation adaptation = Adaptation.open(STORIES, settings, computing(), null)) {
      for (int step = 0; step < 4; ++step) assertTrue(adaptation.step(null));
      adaptation.save(null);
    }
    try (Adaptation adaptation = Adaptation.open(STORIES, settings, computing(), null)) {
      assertTrue(adaptation.step(null));
      assertTrue(adaptation.reportJson().startsWith("{\"step\":3,"), adaptation.reportJson());
      adaptation.discard();
    }
    assertFalse(Files.exists(folder.resolve("kept.json")));
  }

  @Test void refusesWhatItDoesNotKnow() {
    InfiniException e =
        assertThrows(InfiniException.class, () -> Adaptation.open(STORIES, settings(", \"step\": 1"), null, null));
    assertEquals(Status.INVALID_ARGUMENT, e.status());
  }
}
