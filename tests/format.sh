#!/usr/bin/env bash
# Checks that C and C++ stand as .clang-format says (Debian 12's clang-format, version 14; `--fix` makes it so), that no line is
# too long, and that no script ends the writer of a pipe early.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v clang-format >/dev/null || { echo "Skipped: no \`clang-format\` on the path" >&2; exit 77; }
sources() { find lib capi samples tests bindings -path bindings/go/internal -prune -o \( -name '*.c' -o -name '*.cc' -o -name '*.h' \) -print0; }
if [ "${1:-}" = --fix ]; then
  sources | xargs -0 clang-format -i
else
  sources | xargs -0 clang-format --dry-run --Werror
fi
# Comments, which it leaves as they are. In tests and bindings a text in quotes may be longer than a line.
if LC_ALL=C.UTF-8 grep -rnE --include='*.h' --include='*.cc' --include='*.c' '^.{121,}' lib capi samples; then
  echo "These lines are longer than 120 characters" >&2
  exit 1
fi
# `grep -q` ends at its first match: what still writes to it dies of that, and under pipefail the line says that nothing matched.
if grep -rnE --include='*.sh' '\| *grep -[a-zA-Z]*q' bindings samples tests --exclude=format.sh; then
  echo "Let grep read to the end in these lines: >/dev/null instead of -q" >&2
  exit 1
fi
