// The main of every unit test, and all that doctest compiles: once.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

namespace {

// Says what was skipped for want of something, and counts what was not.
struct Skipped : doctest::IReporter {
  static inline int skipped = 0;
  static inline unsigned ran = 0;

  explicit Skipped(const doctest::ContextOptions &) {}
  void report_query(const doctest::QueryData &) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats &stats) override { ran = stats.numTestCasesPassingFilters; }
  void test_case_start(const doctest::TestCaseData &) override {}
  void test_case_reenter(const doctest::TestCaseData &) override {}
  void test_case_end(const doctest::CurrentTestCaseStats &) override {}
  void test_case_exception(const doctest::TestCaseException &) override {}
  void subcase_start(const doctest::SubcaseSignature &) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData &) override {}
  void log_message(const doctest::MessageData &) override {}
  void test_case_skipped(const doctest::TestCaseData &test) override {
    if (!test.m_skip || !test.m_description) return;
    ++skipped;
    std::printf("skipped: \"%s\": %s\n", test.m_name, test.m_description);
  }
};
DOCTEST_REGISTER_LISTENER("skipped", 1, Skipped);

}  // namespace

// 77, which tells ctest that the program was skipped, where no case was run.
int main(int argc, char **argv) {
  doctest::Context context(argc, argv);
  const int failed = context.run();
  if (context.shouldExit()) return failed;
  return failed == 0 && Skipped::ran == 0 && Skipped::skipped > 0 ? 77 : failed;
}
