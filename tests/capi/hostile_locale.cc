// Linked into a test, gives it the locale of a difficult host before main begins: C++ streams that group digits by
// twos and write a comma, and, where the machine has one, a C locale with a comma and the Turkish letters i.
#include <clocale>
#include <locale>

namespace {

struct Grouping : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\2"; }
};

const bool set = [] {
  for (const char *name : {"tr_TR.UTF-8", "tr_TR", "de_DE.UTF-8", "fr_FR.UTF-8"})
    if (std::setlocale(LC_ALL, name)) break;
  std::locale::global(std::locale(std::locale::classic(), new Grouping));
  return true;
}();

}  // namespace
