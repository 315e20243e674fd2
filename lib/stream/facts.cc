#include "stream/facts.h"

namespace infini {

JsonObject facts(const Session &session) {
  JsonList kept;
  for (const KeptSpan &span : session.state().keep.spans())
    kept.add(JsonObject().add("position", span.begin).add("tokens", span.tokens).add("worth", span.worth));
  return JsonObject()
      .add("position", session.position())
      .add("segment_position", session.segment_position())
      .add("memory_tokens", session.memory_tokens())
      .add("window_begin", session.state().view.window_begin)
      .add("kept_tokens", session.state().view.kept)
      .add("kept", kept)
      .add("state_bytes", session.state_bytes())
      .add("checkpoint_bytes", session.state().checkpoint_bytes())
      .add("workspace_bytes", session.workspace_bytes())
      .add("session_bytes", session.total_bytes())
      .add("rewind_limit", session.rewind_limit())
      .add("boundaries", session.boundaries())
      .add("stop_reason", session.stop_reason())
      .add("chat_begin", session.chat_begin())
      .add("unknown_bytes", session.unknown_bytes())
      .add("options", options_json(session.options()));
}

}  // namespace infini
