package infini;

import java.util.List;
import java.util.Map;

/**
 * All numbers of a session.
 *
 * @param position tokens read since the stream began
 * @param segmentPosition tokens in the open segment
 * @param memoryTokens tokens that were folded into the memory
 * @param stateBytes what a copy costs; bounded, however long the stream
 * @param checkpointBytes of these, what the boundaries take that are kept
 * @param workspaceBytes buffers of the last chunk
 * @param sessionBytes all that the session holds
 * @param rewindLimit the earliest position that {@link Session#rewind} reaches
 * @param boundaries segment boundaries that are kept for rewinding, in tokens
 * @param chatBegin position at which the conversation of {@link Session#chat(List, infini.Task)} began; -1: there is none
 * @param unknownBytes of text without tokens that was skipped or replaced, see option "unknown_text"
 * @param windowBegin position of the first token in view behind sinks and kept sentences
 * @param keptTokens of sentences that stood out, or were marked, and stay in view
 * @param kept these sentences, in the order in which they are seen
 * @param stopReason as {@link Session#stopReason}
 * @param options those that were set: Long, Double or String
 * @param json the whole as the library wrote it
 */
public record SessionInfo(long position, long segmentPosition, long memoryTokens, long stateBytes, long checkpointBytes,
    long workspaceBytes, long sessionBytes, long rewindLimit, List<Long> boundaries, long chatBegin,
    long unknownBytes, long windowBegin, long keptTokens, List<Kept> kept, String stopReason, Map<String, Object> options, String json) {
  /**
   * A sentence that stays in view.
   *
   * @param position of its first token
   * @param tokens how many it has
   * @param worth what it is ranked by; 1e6: it was marked
   */
  public record Kept(long position, long tokens, double worth) {}

  static SessionInfo of(String json) {
    Json of = Json.object(json);
    return new SessionInfo(of.whole("position"), of.whole("segment_position"), of.whole("memory_tokens"),
        of.whole("state_bytes"), of.whole("checkpoint_bytes"), of.whole("workspace_bytes"), of.whole("session_bytes"),
        of.whole("rewind_limit"), of.list("boundaries").stream().map(Long.class::cast).toList(),
        of.whole("chat_begin"), of.whole("unknown_bytes"), of.whole("window_begin"), of.whole("kept_tokens"),
        of.list("kept").stream().map(Json::of)
            .map(kept -> new Kept(kept.whole("position"), kept.whole("tokens"), kept.real("worth"))).toList(),
        of.text("stop_reason"),
        of.part("options").all(), json);
  }
}
