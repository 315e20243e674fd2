#include "recall_facts.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace cli {
namespace {

// Each list in two halves: even places for training, odd ones held out.
constexpr const char *kPersons[] = {"Anna",   "Bertha", "Clara",  "Dora",   "Edith",  "Frances", "Grace",   "Harriet",
                                    "Ida",    "Jane",   "Kate",   "Laura",  "Martha", "Nora",    "Olive",   "Paula",
                                    "Rose",   "Sarah",  "Tessa",  "Ursula", "Arthur", "Basil",   "Charles", "Daniel",
                                    "Edmund", "Frank",  "George", "Henry",  "Isaac",  "James",   "Kenneth", "Lewis",
                                    "Martin", "Nathan", "Oscar",  "Peter",  "Robert", "Samuel",  "Thomas",  "Victor"};
constexpr const char *kTowns[] = {"London", "Paris",  "Berlin",   "Vienna", "Rome",    "Madrid", "Lisbon",  "Dublin",
                                  "Oslo",   "Moscow", "Athens",   "Cairo",  "Delhi",   "Boston", "Chicago", "Dallas",
                                  "Denver", "Oxford", "Bristol",  "Leeds",  "Geneva",  "Zurich", "Munich",  "Prague",
                                  "Warsaw", "Venice", "Florence", "Milan",  "Toronto", "Sydney"};
constexpr const char *kWords[] = {"apple",   "bridge",  "candle",  "dragon", "engine", "forest", "garden", "hammer",
                                  "island",  "jacket",  "kettle",  "ladder", "mirror", "needle", "orange", "pencil",
                                  "rabbit",  "silver",  "thunder", "violin", "window", "yellow", "basket", "castle",
                                  "diamond", "feather", "guitar",  "honey",  "iron",   "lemon"};
constexpr const char *kObjects[] = {"lamp",  "clock", "vase",   "chair",  "letter", "ring", "map",   "sword",
                                    "piano", "watch", "carpet", "statue", "book",   "coin", "flute", "painting"};
constexpr const char *kRooms[] = {"kitchen", "garden", "bedroom", "office", "hallway", "bathroom", "library", "cellar"};

template <size_t N>
std::string draw_word(const char *const (&words)[N], bool held_out, Draw &draw) {
  return words[2 * draw.below(N / 2) + held_out];
}

std::string draw_digits(Draw &draw, size_t count) {
  std::string digits(1, static_cast<char>('1' + draw.below(9)));
  while (digits.size() < count) digits += static_cast<char>('0' + draw.below(10));
  return digits;
}

std::string draw_value(Pool pool, bool held_out, Draw &draw) {
  switch (pool) {
    case Pool::PERSON: return draw_word(kPersons, held_out, draw);
    case Pool::TOWN: return draw_word(kTowns, held_out, draw);
    case Pool::WORD: return draw_word(kWords, held_out, draw);
    case Pool::OBJECT: return draw_word(kObjects, held_out, draw);
    case Pool::ROOM: return draw_word(kRooms, held_out, draw);
    case Pool::DIGITS: return draw_digits(draw, 5);
    case Pool::SEVEN_DIGITS: return draw_digits(draw, 7);
    case Pool::NUMBER: return draw_digits(draw, 2 + draw.below(2));
    case Pool::VARIABLE: {
      std::string name = "X";
      for (int i = 0; i < 3; ++i) name += static_cast<char>('A' + draw.below(26));
      return name;
    }
    case Pool::UUID: {
      std::string uuid;
      for (const size_t part : {8, 4, 4, 4, 12}) {
        if (!uuid.empty()) uuid += '-';
        for (size_t i = 0; i < part; ++i) uuid += "0123456789abcdef"[draw.below(16)];
      }
      return uuid;
    }
    case Pool::NONE: break;
  }
  return "";
}

void replace_all(std::string &text, const char *mark, const std::string &by) {
  for (size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += by.size()) text.replace(at, 3, by);
}

// Lower-case words and numbers, with a space before each.
std::string words_of(const std::string &text) {
  std::string words;
  bool inside = false;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c & 0x80);
    if (letter && !inside) words += ' ';
    if (letter) words += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    inside = letter;
  }
  return words + " ";
}

std::string first_sentence(const std::string &text) {
  const size_t begin = text.find_first_not_of(" \n");
  if (begin == std::string::npos) return "";
  for (size_t i = begin; i < text.size(); ++i)
    if (text[i] == '\n' || ((text[i] == '.' || text[i] == '!') && (i + 1 == text.size() || text[i + 1] == ' ')))
      return text.substr(begin, i - begin);
  return text.substr(begin);
}

}  // namespace

const std::vector<Family> &families() {
  static const auto &all = *new std::vector<Family>{
      // --- digits
      {"safe",
       "digits",
       false,
       Pool::PERSON,
       Pool::DIGITS,
       Pool::NONE,
       {{"{S} told me that the number of the safe is {V}.", "The safe of {S} opens with the number {V}.",
         "{V} is the number that opens {S}'s safe.", "If you need it, the number of {S}'s safe is {V}."}},
       {{"What is the number of {S}'s safe?", "The number of {S}'s safe is"},
        {"With which number does {S}'s safe open?", "{S}'s safe opens with the number"}}},
      {"account",
       "digits",
       false,
       Pool::PERSON,
       Pool::DIGITS,
       Pool::NONE,
       {{"The account of {S} has the number {V}.", "{S} keeps the savings in account {V}.",
         "Money for {S} goes to account number {V}."}},
       {{"What is the number of {S}'s account?", "The number of {S}'s account is"},
        {"To which account does money for {S} go?", "Money for {S} goes to account number"}}},
      {"alarm",
       "digits",
       false,
       Pool::ROOM,
       Pool::DIGITS,
       Pool::NONE,
       {{"The alarm in the {S} is switched off with {V}.", "Type {V} to switch off the alarm in the {S}.",
         "The code for the alarm of the {S} is {V}."}},
       {{"How is the alarm in the {S} switched off?", "The code for the alarm of the {S} is"}}},
      {"telephone",
       "digits",
       true,
       Pool::PERSON,
       Pool::DIGITS,
       Pool::NONE,
       {{"{S} can be reached by telephone under {V}.", "The telephone number of {S} is {V}.",
         "Whoever wants to speak to {S} has to dial {V}."}},
       {{"What is {S}'s telephone number?", "{S}'s telephone number is"},
        {"Which number must one dial to reach {S}?", "To reach {S} one must dial"}}},
      {"pass key",
       "digits",
       true,
       Pool::NONE,
       Pool::DIGITS,
       Pool::NONE,
       {{"The pass key is {V}. Remember it. {V} is the pass key."}},
       {{"What is the pass key?", "The pass key is"}}},
      // --- words
      {"password",
       "words",
       false,
       Pool::PERSON,
       Pool::WORD,
       Pool::NONE,
       {{"{S} chose the password {V}.", "The password of {S} is {V}.", "{S}'s door opens to the password {V}."}},
       {{"What is the password of {S}?", "The password of {S} is"},
        {"Which password did {S} choose?", "{S} chose the password"}}},
      {"ship",
       "words",
       false,
       Pool::TOWN,
       Pool::WORD,
       Pool::NONE,
       {{"The ship that sails to {S} is named {V}.", "{V} is the name of the ship to {S}.",
         "A ship with the name of {V} goes to {S}."}},
       {{"What is the name of the ship to {S}?", "The ship to {S} is named"}}},
      {"likes",
       "words",
       false,
       Pool::PERSON,
       Pool::WORD,
       Pool::NONE,
       {{"The thing that {S} likes best is the {V}.", "{S} is fond of nothing so much as of the {V}.",
         "My friend {S} collects every {V}."}},
       {{"What does {S} like best?", "{S} likes best the"}}},
      {"boat",
       "words",
       true,
       Pool::PERSON,
       Pool::WORD,
       Pool::NONE,
       {{"{S} painted the word {V} on the side of the boat.", "On the boat of {S} stood the word {V}.",
         "The word on {S}'s boat was {V}."}},
       {{"Which word stood on {S}'s boat?", "The word on {S}'s boat was"}}},
      // --- names
      {"dog",
       "names",
       false,
       Pool::PERSON,
       Pool::PERSON,
       Pool::NONE,
       {{"{S} had a dog whose name was {V}.", "{S} called the dog {V}.",
         "The dog of {S} answered to the name of {V}."}},
       {{"What was the name of {S}'s dog?", "The name of {S}'s dog was"},
        {"What did {S} call the dog?", "{S} called the dog"}}},
      {"husband",
       "names",
       false,
       Pool::PERSON,
       Pool::PERSON,
       Pool::NONE,
       {{"{S} is married to {V}.", "{S} and {V} have married.", "By marriage {S} belongs to {V}."}},
       {{"To whom is {S} married?", "{S} is married to"}}},
      {"innkeeper",
       "names",
       false,
       Pool::TOWN,
       Pool::PERSON,
       Pool::NONE,
       {{"The innkeeper in {S} is called {V}.", "{V} keeps the inn of {S}.",
         "In {S} the name of the innkeeper is {V}."}},
       {{"What is the innkeeper in {S} called?", "The innkeeper in {S} is called"}}},
      {"sister",
       "names",
       true,
       Pool::PERSON,
       Pool::PERSON,
       Pool::NONE,
       {{"{S} has a sister, and her name is {V}.", "The sister of {S} is called {V}.", "{V} is the sister of {S}."}},
       {{"What is the name of {S}'s sister?", "The name of {S}'s sister is"},
        {"Who is the sister of {S}?", "The sister of {S} is"}}},
      // --- places
      {"lives",
       "places",
       false,
       Pool::PERSON,
       Pool::TOWN,
       Pool::NONE,
       {{"{S} lives in {V}.", "{S} has a house in {V}.", "For some years {S} has been living in {V}."}},
       {{"Where does {S} live?", "{S} lives in"}, {"In which town does {S} live?", "{S} lives in the town of"}}},
      {"lies",
       "places",
       false,
       Pool::OBJECT,
       Pool::ROOM,
       Pool::NONE,
       {{"The {S} lies in the {V}.", "You will find the {S} in the {V}.", "Somebody put the {S} into the {V}."}},
       {{"Where is the {S}?", "The {S} is in the"}}},
      {"holiday",
       "places",
       false,
       Pool::PERSON,
       Pool::TOWN,
       Pool::NONE,
       {{"{S} spends the holidays in {V}.", "In summer {S} goes to {V}.", "{V} is where {S} spends the summer."}},
       {{"Where does {S} spend the holidays?", "{S} spends the holidays in"}}},
      {"born",
       "places",
       true,
       Pool::PERSON,
       Pool::TOWN,
       Pool::NONE,
       {{"{S} was born in {V}.", "{V} is the town where {S} was born.", "{S} came into the world in {V}."}},
       {{"Where was {S} born?", "{S} was born in"}, {"Which is the town where {S} was born?", "{S} was born in"}}},
      // --- numbers with units
      {"tower",
       "numbers",
       false,
       Pool::TOWN,
       Pool::NUMBER,
       Pool::NONE,
       {{"The tower of {V} feet stands in {S}.", "The old tower of {S} is {V} feet high.",
         "In {S} there is a tower, {V} feet high."}},
       {{"How high is the tower of {S}?", "The height of the tower of {S} is, in feet,"},
        {"How many feet high is the tower of {S}?", "The tower of {S} is"}}},
      {"age",
       "numbers",
       false,
       Pool::PERSON,
       Pool::NUMBER,
       Pool::NONE,
       {{"{S} is {V} years old.", "{S} has reached the age of {V}.", "The age of {S} is {V}."}},
       {{"How old is {S}?", "The age of {S} is"}}},
      {"price",
       "numbers",
       false,
       Pool::OBJECT,
       Pool::NUMBER,
       Pool::NONE,
       {{"The {S} costs {V} shillings.", "They want {V} shillings for the {S}.",
         "The price of the {S} is {V} shillings."}},
       {{"What does the {S} cost?", "The price of the {S} is, in shillings,"}}},
      {"flour",
       "numbers",
       true,
       Pool::PERSON,
       Pool::NUMBER,
       Pool::NONE,
       {{"{S} bought {V} pounds of flour.", "It was {V} pounds of flour that {S} bought.",
         "{V} pounds of flour were sold to {S}."}},
       {{"How many pounds of flour did {S} buy?", "{S} bought"},
        {"How much flour was sold to {S}?", "The flour that was sold to {S} weighed"}}},
      // --- who did what
      {"broke",
       "who",
       false,
       Pool::OBJECT,
       Pool::PERSON,
       Pool::NONE,
       {{"It was {V} who broke the {S}.", "{V} broke the {S}.", "The {S} was broken by {V}."}},
       {{"Who broke the {S}?", "The {S} was broken by"}}},
      {"borrowed",
       "who",
       false,
       Pool::OBJECT,
       Pool::PERSON,
       Pool::NONE,
       {{"{V} has borrowed the {S}.", "The {S} was lent to {V}.", "It is {V} who borrowed the {S}."}},
       {{"Who borrowed the {S}?", "The {S} was borrowed by"}}},
      {"meeting",
       "who",
       false,
       Pool::TOWN,
       Pool::PERSON,
       Pool::NONE,
       {{"We shall meet {V} in {S}.", "The meeting in {S} is with {V}.", "{V} will wait for us in {S}."}},
       {{"Whom shall we meet in {S}?", "In {S} we shall meet"}}},
      {"found",
       "who",
       true,
       Pool::OBJECT,
       Pool::PERSON,
       Pool::NONE,
       {{"{V} found the {S} at last.", "The {S} was found by {V}.", "The one who found the {S} was {V}."}},
       {{"Who found the {S}?", "The {S} was found by"}}},
      // --- the newest holds
      {"moved",
       "changed",
       false,
       Pool::PERSON,
       Pool::TOWN,
       Pool::NONE,
       {{"{S} works in {W}.", "The office of {S} is in {W}."},
        {"Since this spring {S} works in {V}.", "The office of {S} has moved to {V}."}},
       {{"Where does {S} work now?", "{S} now works in"}}},
      {"train leaves",
       "changed",
       false,
       Pool::TOWN,
       Pool::NUMBER,
       Pool::NONE,
       {{"The train to {S} has the number {W}.", "Number {W} is the train to {S}."},
        {"From now on the train to {S} has the number {V}.", "The number of the train to {S} was changed to {V}."}},
       {{"Which number has the train to {S} now?", "The train to {S} now has the number"}}},
      {"owner",
       "changed",
       true,
       Pool::OBJECT,
       Pool::PERSON,
       Pool::NONE,
       {{"The {S} belongs to {W}.", "{W} owns the {S}."},
        {"The {S} was sold, and belongs to {V} now.", "{V} is the new owner of the {S}."}},
       {{"To whom does the {S} belong now?", "The {S} now belongs to"},
        {"Who owns the {S} now?", "The {S} is now owned by"}}},
      {"where is",
       "changed",
       true,
       Pool::PERSON,
       Pool::ROOM,
       Pool::NONE,
       {{"{S} went to the {W}.", "{S} moved to the {W}."}, {"{S} travelled to the {V}.", "{S} went back to the {V}."}},
       {{"Where is {S}?", "{S} is in the"}}},
      // --- two facts that must be joined
      {"teacher",
       "joined",
       false,
       Pool::PERSON,
       Pool::TOWN,
       Pool::PERSON,
       {{"The teacher of {S} is {O}.", "{S} takes lessons from {O}."},
        {"{O} teaches in {V}.", "The school of {O} is in {V}."}},
       {{"In which town does {S}'s teacher teach?", "The teacher of {S} teaches in"}}},
      {"register",
       "joined",
       false,
       Pool::VARIABLE,
       Pool::NUMBER,
       Pool::VARIABLE,
       {{"let {O} := {V};", "{O} <- {V}"}, {"let {S} := {O};", "{S} <- {O}"}},
       {{"What is the value of {S}?", "The value of {S} is"}}},
      {"carried",
       "joined",
       true,
       Pool::OBJECT,
       Pool::ROOM,
       Pool::PERSON,
       {{"{O} picked up the {S}.", "{O} took the {S}."}, {"{O} went to the {V}.", "{O} travelled to the {V}."}},
       {{"Where is the {S}?", "The {S} is in the"}}},
      {"variable",
       "joined",
       true,
       Pool::VARIABLE,
       Pool::DIGITS,
       Pool::VARIABLE,
       {{"VAR {O} = {V}."}, {"VAR {S} = VAR {O}."}},
       {{"What is the value of the variable {S}?", "The value of {S} is"}}},
      // --- needles for training
      {"reminder",
       "needle",
       false,
       Pool::WORD,
       Pool::NUMBER,
       Pool::NONE,
       {{"Note: the locker with the {S} on it has the number {V}.", "Keep in mind that the {S} has locker {V}."}},
       {{"Which locker has the {S}?", "The locker with the {S} on it has the number"}}},
      {"code word",
       "needle",
       false,
       Pool::PERSON,
       Pool::WORD,
       Pool::NONE,
       {{"Do not forget: the code word for {S} is {V}.", "The secret code word of {S} is: {V}."}},
       {{"What is the code word for {S}?", "The code word for {S} is"}}},
      // --- RULER's needles
      {"magic number",
       "needle",
       true,
       Pool::WORD,
       Pool::DIGITS,
       Pool::NONE,
       {{"One of the special magic numbers for {S} is: {V}."}},
       {{"What is the special magic number for {S} mentioned in the provided text?",
         "The special magic number for {S} mentioned in the provided text is"}}},
      {"magic word",
       "needle",
       true,
       Pool::TOWN,
       Pool::WORD,
       Pool::NONE,
       {{"One of the special magic words for {S} is: {V}."}},
       {{"What is the special magic word for {S} mentioned in the provided text?",
         "The special magic word for {S} mentioned in the provided text is"}}},
      // --- as RULER has them (S-NIAH 1 amid sentences that repeat, 2 and 3 amid prose), and BABILong (qa1 and qa2)
      {"niah number",
       "ruler",
       true,
       Pool::WORD,
       Pool::SEVEN_DIGITS,
       Pool::NONE,
       {{"One of the special magic numbers for {S} is: {V}."}},
       {{"What is the special magic number for {S} mentioned in the provided text?",
         "The special magic number for {S} mentioned in the provided text is"}}},
      {"niah uuid",
       "ruler",
       true,
       Pool::WORD,
       Pool::UUID,
       Pool::NONE,
       {{"One of the special magic uuids for {S} is: {V}."}},
       {{"What is the special magic uuid for {S} mentioned in the provided text?",
         "The special magic uuid for {S} mentioned in the provided text is"}}},
      {"one supporting fact",
       "babilong",
       true,
       Pool::PERSON,
       Pool::ROOM,
       Pool::NONE,
       {{"{S} went to the {V}.", "{S} moved to the {V}.", "{S} travelled to the {V}.", "{S} journeyed to the {V}."}},
       {{"Where is {S}?", "{S} is in the"}}},
      {"two supporting facts",
       "babilong",
       true,
       Pool::OBJECT,
       Pool::ROOM,
       Pool::PERSON,
       {{"{O} took the {S} there.", "{O} picked up the {S} there.", "{O} got the {S} there."},
        {"{O} went to the {V}.", "{O} moved to the {V}.", "{O} travelled to the {V}.", "{O} journeyed to the {V}."}},
       {{"Where is the {S}?", "The {S} is in the"}}},
      // --- nothing was said
      {"not said",
       "never",
       false,
       Pool::PERSON,
       Pool::NONE,
       Pool::NONE,
       {},
       {{"Where did {S} go to school? If nobody said it, say: unknown.", "The answer is:"}}},
      {"not mentioned",
       "never",
       true,
       Pool::PERSON,
       Pool::NONE,
       Pool::NONE,
       {},
       {{"What is the colour of {S}'s coat? If it was not mentioned, answer with the word unknown.",
         "The answer is:"}}},
  };
  return all;
}

// splitmix64 (Steele, Lea, Flood 2014)
Draw::Draw(const std::vector<uint64_t> &seeds) : state_(0) {
  for (const uint64_t seed : seeds) state_ = next() ^ seed;
  state_ = next();  // else neighbouring seeds would give the same numbers, one later
}
uint64_t Draw::next() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
size_t Draw::below(size_t count) { return static_cast<size_t>(next() % count); }

Fact draw_fact(const Family &family, bool held_out, Draw &draw) {
  Fact fact;
  fact.family = &family;
  const std::string &subject = fact.subject = draw_value(family.subject, held_out, draw);
  const auto another = [&](Pool pool, const std::string &taken, const std::string &too) {
    std::string value;
    do value = draw_value(pool, held_out, draw);
    while (pool != Pool::NONE && (value == taken || value == too));
    return value;
  };
  fact.value = another(family.value, subject, "");
  const std::string wrong = another(family.value, fact.value, subject);
  const std::string other = another(family.other, subject, fact.value);
  const auto fill = [&](std::string text) {
    replace_all(text, "{S}", subject), replace_all(text, "{V}", fact.value);
    replace_all(text, "{W}", wrong), replace_all(text, "{O}", other);
    return text;
  };
  for (const auto &wordings : family.statements) {
    const std::string wording = wordings[draw.below(wordings.size())];
    if (wording.find("{W}") != std::string::npos) fact.wrong = {wrong};
    fact.statements.push_back(fill(wording));
  }
  const Asking asking = family.askings[draw.below(family.askings.size())];
  fact.question = fill(asking.question);
  fact.stem = fill(asking.stem);
  return fact;
}

std::optional<Fact> draw_other_fact(const Family &family, bool held_out, const std::vector<Fact> &told, Draw &draw) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    Fact fact = draw_fact(family, held_out, draw);
    if (std::none_of(told.begin(), told.end(),
                     [&](const Fact &other) { return other.family == fact.family && other.subject == fact.subject; }))
      return fact;
  }
  return std::nullopt;
}

bool is_right(const Fact &fact, const std::string &answer, bool anywhere) {
  const std::string said = words_of(first_sentence(answer));
  if (fact.value.empty()) return said.find(" unknown ") != std::string::npos;
  const size_t at = said.find(words_of(fact.value));
  if (at == std::string::npos || (!anywhere && at != 0)) return false;
  return std::none_of(fact.wrong.begin(), fact.wrong.end(), [&](const std::string &wrong) {
    const size_t found = said.find(words_of(wrong));
    return found != std::string::npos && found < at;
  });
}

}  // namespace cli
