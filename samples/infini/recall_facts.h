// Facts that a person might tell a model, and ask it for later: the families of `infini recall`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cli {

// What a placeholder of a wording stands for.
enum class Pool { NONE, PERSON, TOWN, WORD, OBJECT, ROOM, DIGITS, SEVEN_DIGITS, NUMBER, VARIABLE, UUID };

struct Asking {
  const char *question;  // as a person asks it
  const char *stem;      // how the answer begins: what follows in a text that is no conversation
};

// {S} the subject, {V} the value that is asked for, {W} another value of its kind, {O} another subject.
struct Family {
  const char *name;
  const char *kind;                                                                                 // what it tests
  bool held_out;                                                                                    // never trained on
  bool by_name() const { return kind == std::string("ruler") || kind == std::string("babilong"); }  // asked for alone
  Pool subject, value, other;
  std::vector<std::vector<const char *>> statements;  // told one after the other; each in one of these wordings
  std::vector<Asking> askings;
};

const std::vector<Family> &families();

// One telling of a family's fact, with its question and answer.
struct Fact {
  const Family *family;
  std::vector<std::string> statements;
  std::string subject;  // what it is about; "" where the family has none
  std::string question, stem;
  std::string value;               // "" where the answer is that nothing was said
  std::vector<std::string> wrong;  // values that were told too, but are not the answer
};

// Whole numbers below `count`, one after the other, from a seed: the same on every machine.
class Draw {
 public:
  explicit Draw(const std::vector<uint64_t> &seeds);
  size_t below(size_t count);

 private:
  uint64_t next();
  uint64_t state_;
};

// The words of trained and of held-out facts are different ones, and so are wordings where a family has both.
Fact draw_fact(const Family &family, bool held_out, Draw &draw);

// A fact of the family that none of `told` answers the question of: of another family, or about something else. Nothing
// where there is none, as for a family without a subject that was told.
std::optional<Fact> draw_other_fact(const Family &family, bool held_out, const std::vector<Fact> &told, Draw &draw);

// Whether an answer gives the fact's value: its words stand at the answer's beginning (`anywhere`: in its first
// sentence), and no wrong value before them.
bool is_right(const Fact &fact, const std::string &answer, bool anywhere);

}  // namespace cli
