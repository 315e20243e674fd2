// What can be said of a session.
#pragma once

#include "base/json.h"
#include "stream/session.h"

namespace infini {

// All that infini_session_info_json lists.
JsonObject facts(const Session &session);

}  // namespace infini
