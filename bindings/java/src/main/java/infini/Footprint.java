package infini;

import java.util.List;

/**
 * What methods of long context would hold for a past.
 *
 * @param tokens its length
 * @param methods "kv_cache", "transformer_xl", "memorizing_transformer", "rmt" and "infini_attention", the memory alone
 * @param windowBytes keys and values of a session's window by then; 0 for the set-up of the paper
 * @param sessionBytes all that a session holds, however long the stream; 0 for the set-up of the paper
 * @param json the whole as the library wrote it
 */
public record Footprint(long tokens, List<Method> methods, long windowBytes, long sessionBytes, String json) {
  /**
   * What one method would hold.
   *
   * @param method its name
   * @param values numbers held
   * @param bytes that they take
   */
  public record Method(String method, long values, long bytes) {}

  static Footprint of(String json) {
    Json of = Json.object(json);
    return new Footprint(of.whole("tokens"), of.list("methods").stream().map(Json::of)
        .map(method -> new Method(method.text("method"), method.whole("values"), method.whole("bytes"))).toList(),
        of.whole("window_bytes"), of.whole("session_bytes"), json);
  }
}
