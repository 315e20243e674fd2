"""unittest.main() for ctest: says what was skipped and why, as tests/run.sh gathers it, and exits with 77 where nothing ran."""
import sys
import unittest


class Result(unittest.TextTestResult):
    passed = False  # at least one

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed = True

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"skipped: {test.id().removeprefix('__main__.')}: {reason}", flush=True)


def main(argv=None):
    runner = unittest.TextTestRunner(resultclass=Result)
    result = unittest.main(module="__main__", argv=argv, testRunner=runner, exit=False).result
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped and not result.passed else 0)
