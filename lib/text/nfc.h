// Unicode's normal form C: letters and their marks as one character where there is one, marks in one order.
#pragma once

#include <string>
#include <string_view>

#include "text/edits.h"

namespace infini {

// Valid text in form NFC: the text itself where it is so already, else a new one in `room`. In time linear in the text,
// whatever it holds (n log n in a run of combining marks).
std::string_view nfc(std::string_view text, std::string &room, Edits &edits);

// Whether the character at the front may join with what stands before it, so that a text is not cut there.
bool joins_before(std::string_view text);

}  // namespace infini
