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
 * @param workspaceBytes buffers of the last block
 * @param sessionBytes all that the session holds
 * @param rewindLimit the earliest position that {@link Session#rewind} reaches
 * @param boundaries segment boundaries that are kept for rewinding, in tokens
 * @param chatBegin position at which the conversation of {@link Session#chat(List, infini.Task)} began; -1: there is none
 * @param unknownBytes of text without tokens that was skipped or replaced, see option "unknown_text"
 * @param keptTokens of sentences that stood out, or were marked, and stay in view
 * @param stopReason as {@link Session#stopReason}
 * @param options those that were set: Long, Double or String
 * @param json the whole as the library wrote it
 */
public record SessionInfo(long position, long segmentPosition, long memoryTokens, long stateBytes, long checkpointBytes,
    long workspaceBytes, long sessionBytes, long rewindLimit, List<Long> boundaries, long chatBegin,
    long unknownBytes, long keptTokens, String stopReason, Map<String, Object> options, String json) {
  static SessionInfo of(String json) {
    Json of = Json.object(json);
    return new SessionInfo(of.whole("position"), of.whole("segment_position"), of.whole("memory_tokens"),
        of.whole("state_bytes"), of.whole("checkpoint_bytes"), of.whole("workspace_bytes"), of.whole("session_bytes"),
        of.whole("rewind_limit"), of.list("boundaries").stream().map(Long.class::cast).toList(),
        of.whole("chat_begin"), of.whole("unknown_bytes"), of.whole("kept_tokens"), of.text("stop_reason"),
        of.part("options").all(), json);
  }
}
