// Linked into a test, gives it the locale of a difficult host before main begins: C++ streams that group digits by
// twos and write a comma, and, where the machine has one, a C locale with a comma and the Turkish letters i.
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <locale>

namespace {

struct Grouping : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\2"; }
};

const bool set = [] {
  const char *found = nullptr;
  for (const char *name : {"tr_TR.UTF-8", "tr_TR", "de_DE.UTF-8", "fr_FR.UTF-8"})
    if (!found) found = std::setlocale(LC_ALL, name);
  char comma[8];
  std::snprintf(comma, sizeof comma, "%.1f", 0.5);
  if (std::getenv("LOCPATH") && comma[1] != ',') {  // it was made for this test
    std::fprintf(stderr, "the locale %s writes %s\n", found ? found : "of no name", comma);
    std::exit(1);
  }
  std::locale::global(std::locale(std::locale::classic(), new Grouping));
  return true;
}();

}  // namespace
