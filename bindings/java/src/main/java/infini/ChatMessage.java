package infini;

import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;

/**
 * A message of a conversation.
 *
 * @param role who says it: "system", "user" or "assistant"
 * @param content what is said; the model's control tokens in it are read as plain text
 */
public record ChatMessage(String role, String content) {
  /**
   * Neither may be null.
   *
   * @param role who says it
   * @param content what is said
   */
  public ChatMessage {
    Objects.requireNonNull(role, "role");
    Objects.requireNonNull(content, "content");
  }

  /**
   * What the conversation is to be like.
   *
   * @param content the text
   * @return a message of the role "system"
   */
  public static ChatMessage system(String content) {
    return new ChatMessage("system", content);
  }

  /**
   * What the person says.
   *
   * @param content the text
   * @return a message of the role "user"
   */
  public static ChatMessage user(String content) {
    return new ChatMessage("user", content);
  }

  /**
   * What the model said, or begins to say.
   *
   * @param content the text
   * @return a message of the role "assistant"
   */
  public static ChatMessage assistant(String content) {
    return new ChatMessage("assistant", content);
  }

  static String json(List<ChatMessage> messages) {
    return messages.stream()
        .map(message -> "{\"role\":" + Json.quote(message.role) + ",\"content\":" + Json.quote(message.content) + "}")
        .collect(Collectors.joining(",", "[", "]"));
  }
}
