// Documents: text files, read into a session piece by piece.
#pragma once

#include "shelf.h"

namespace shelf {

// The hash of a file's bytes.
std::string hash_of(const std::string &path);

// Feeds a file of any length, in fixed memory. The document that is returned tells of the bytes that were fed.
Document feed(infini_session *session, const std::string &path);

}  // namespace shelf
