// What templates do to texts. What came out of messages stays marked as that: see Text.
#pragma once

#include <functional>

#include "text/jinja.h"

namespace infini::jinja {

// What is left without characters of a set, white space where it is no text, at the ends. (Of characters of several
// bytes a set takes each byte.)
Text strip(const Text &text, const Value *set, bool left, bool right);
// ASCII letters in upper or lower case, as upper_case() says for each: its offset, and whether a word begins with it.
Text cased(const Text &text, const std::function<bool(size_t at, bool begins)> &upper_case);
// How many characters, and those from one to another.
int64_t characters(const Text &text);
Text characters(const Text &text, int64_t begin, int64_t end);
// The first `most` occurrences, all where that is negative.
Text replace(const Text &text, const Text &from, const Text &to, int64_t most, Budget &budget);
// As Python's split and rsplit, by white space where there is no separator.
List split(const Text &text, const Value *separator, int64_t most, bool from_right, Budget &budget);
List lines(const Text &text);
Text indent(const Text &text, const Value *width, bool first, bool blank, Budget &budget);

}  // namespace infini::jinja
