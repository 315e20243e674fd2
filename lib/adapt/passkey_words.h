// The words of Mohtashami and Jaggi's pass key task, as the Infini-attention paper takes it over: for training by it
// (recall_source.h), and for the command's test. Text alone, which includes nothing of the library.
#pragma once

#include <string>

namespace infini {

// Filler, again and again.
inline constexpr const char *kPasskeySentences =
    " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

// Names of keys: common words, each a token of its own in most vocabularies. The paper's stands first.
inline constexpr const char *kPasskeyNames[] = {
    "pass",   "red",   "blue",    "green",  "black",  "white",  "golden", "silver",  "old",     "new",    "little",
    "great",  "young", "dark",    "house",  "door",   "garden", "church", "road",    "river",   "sea",    "city",
    "street", "room",  "table",   "chair",  "window", "horse",  "dog",    "ship",    "boat",    "stone",  "fire",
    "water",  "night", "morning", "summer", "winter", "spring", "king",   "queen",   "captain", "doctor", "master",
    "lady",   "lord",  "brother", "sister", "mother", "father", "son",    "daughter"};

// " The river key is ", before the key.
inline std::string passkey_fact(const std::string &name) { return " The " + name + " key is "; }
// Behind a fact; it says the key again.
inline std::string passkey_reminder(const std::string &name, const std::string &key) {
  return ". Remember it. " + key + " is the " + name + " key.";
}
// The question; an answer is a fact again.
inline std::string passkey_question(const std::string &name) { return " What is the " + name + " key?"; }

}  // namespace infini
