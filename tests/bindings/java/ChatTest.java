import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import infini.CancelledException;
import infini.ChatMessage;
import infini.InfiniException;
import infini.Model;
import infini.Options;
import infini.Session;
import infini.Status;
import infini.Task;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Conversations, and text that the vocabulary lacks. System property `chat` is a model that has a chat template. */
class ChatTest extends Support {
  private static final Path CHAT = Path.of(System.getProperty("chat"));

  private static String reply(Session session) {
    return session.generate().collect(Collectors.joining());
  }

  @Test void aConversationInOneCallEach() {
    List<ChatMessage> first = List.of(ChatMessage.system("Be \"brief\".\n"), ChatMessage.user("Who is Lily? 😀"));
    try (Model model = Model.open(CHAT, computing()); Session session = model.newSession(greedy());
         Session byHand = model.newSession(greedy())) {
      session.chat(first);
      byHand.feed(model.chatTokens(first, true, true));
      assertEquals(byHand.position(), session.position());
      String wanted = reply(byHand);
      assertFalse(wanted.isEmpty());
      assertEquals(wanted, reply(session));
      session.chat(ChatMessage.user("And Tom?")); // closes the answer's turn
      byHand.feed(model.tokenize(model.chatTurnEnd(), true, false));
      byHand.feed(model.chatTokens(List.of(ChatMessage.user("And Tom?")), false, true));
      assertEquals(byHand.position(), session.position());
      byHand.startGeneration();
      assertEquals(reply(byHand), reply(session));
      try (Session inParts = session.fork()) {
        String more = "[{\"role\": \"user\", \"content\": \"Tell me more.\"}]";
        session.chatJson(more, null);
        int[] tokens = inParts.chatTokensJson(more);
        for (int i = 0; i < tokens.length; i += 5) inParts.feed(Arrays.copyOfRange(tokens, i, Math.min(i + 5, tokens.length)));
        inParts.startGeneration();
        assertEquals(session.position(), inParts.position());
        assertEquals(reply(session), reply(inParts));
        fails(Status.INVALID_ARGUMENT, "", () -> inParts.chatTokensJson("[]"));
      }
      session.reset();
      session.chatJson("[{\"role\": \"system\", \"content\": [{\"type\": \"text\", \"text\": \"Be \\\"brief\\\".\\n\"}]},"
          + " {\"role\": \"user\", \"content\": \"Who is Lily? 😀\", \"name\": \"x\"}]", null);
      assertEquals(wanted, reply(session));
      assertTrue(model.applyChat(first, true, true).contains("Be \"brief\".\n"));
    }
  }

  @Test void wordsAreNoMarks() {
    try (Model model = Model.open(CHAT, computing()); Session session = model.newSession(greedy())) {
      int[] tokens = model.chatTokens(List.of(ChatMessage.user("a</s></s></s>")), true, true);
      int[] plain = model.chatTokens(List.of(ChatMessage.user("a")), true, true);
      assertTrue(tokens.length >= plain.length + 6);
      assertArrayEquals(plain, model.chatTokensJson("[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}]}]", true, true));
      fails(Status.INVALID_ARGUMENT, "", () -> model.chatTokensJson("{", true, true));
      session.chat(ChatMessage.user("a</s></s></s>"));
      assertEquals(tokens.length, session.position());
    }
  }

  @Test void whatIsRefused() {
    try (Model model = Model.open(CHAT, computing()); Model plain = open(); Session session = model.newSession(greedy());
         Session none = plain.newSession(greedy()); Task task = new Task()) {
      fails(Status.INVALID_ARGUMENT, "pirate", () -> session.chat(new ChatMessage("pirate", "Ahoy")));
      fails(Status.INVALID_ARGUMENT, "", () -> session.chat());
      fails(Status.UNSUPPORTED, "chat template", () -> none.chat(ChatMessage.user("Hi")));
      assertThrows(NullPointerException.class, () -> ChatMessage.user(null));
      assertThrows(IllegalArgumentException.class, () -> session.chat(ChatMessage.user("half a pair: \uD83D")));
      task.cancel();
      assertThrows(CancelledException.class, () -> session.chat(List.of(ChatMessage.user("Hi")), task));
      assertEquals(0, session.position());
    }
  }

  @Test void aConversationIsInItsSnapshot() {
    try (Model model = Model.open(CHAT, computing()); Session session = model.newSession(greedy());
         Session again = model.newSession(greedy())) {
      session.chat(ChatMessage.user("Who is Lily?"));
      session.next();
      again.restore(session.snapshot(), null);
      for (Session one : List.of(session, again)) one.chat(ChatMessage.user("And Tom?"));
      assertEquals(session.position(), again.position());
      assertArrayEquals(session.logits(), again.logits());
      assertEquals(0, session.info().chatBegin());
    }
  }

  @Test void unknownTextIsWhatWasAskedFor(@TempDir Path folder) throws IOException {
    byte[] data = Files.readAllBytes(SOURCE.resolve("samples/models/recall.gguf"));
    String text = new String(data, StandardCharsets.ISO_8859_1); // a character for each byte
    String token = "\2\0\0\0\0\0\0\0" + new String("\u0116".getBytes(StandardCharsets.UTF_8), StandardCharsets.ISO_8859_1);
    int at = text.indexOf(token) + 8; // that of the byte 0x16, which becomes another
    System.arraycopy("\u03a9".getBytes(StandardCharsets.UTF_8), 0, data, at, 2);
    try (Model model = Model.open(Files.write(folder.resolve("gaps"), data), computing());
         Session strict = model.newSession(); Session skips = model.newSession(new Options().set("unknown_text", "skip"))) {
      fails(Status.INVALID_ARGUMENT, "5", () -> strict.feed("a log\u0016."));
      assertEquals(0, strict.position());
      skips.feed("a log\u0016.");
      skips.feed(new ByteArrayInputStream("\u0016\u0016".getBytes(StandardCharsets.UTF_8)), null);
      fails(Status.INVALID_ARGUMENT, "5", () -> strict.textTokens("a log\u0016."));
      strict.feed("a log.");
      assertEquals(strict.position(), skips.position());
      skips.reset();
      skips.feed(skips.textTokens("a log\u0016\u0016\u0016."));
      assertEquals(strict.position(), skips.position());
      assertEquals(3, skips.info().unknownBytes());
      assertEquals(0, strict.info().unknownBytes());
      // In a long text the message says where the piece begins, and where in that the character stands.
      String far = assertThrows(InfiniException.class, () -> strict.feed(
          new ByteArrayInputStream(("a log ".repeat(12000) + "\u0016").getBytes(StandardCharsets.UTF_8)), null)).getMessage();
      long[] places = Pattern.compile("at byte ([0-9]+)").matcher(far).results().mapToLong(
          place -> Long.parseLong(place.group(1))).toArray();
      assertEquals(2, places.length, far);
      assertEquals(72000, places[0] + places[1], far);
    }
  }
}
