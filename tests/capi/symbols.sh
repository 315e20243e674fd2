#!/usr/bin/env bash
# The library exports exactly what symbols.txt lists, the header declares exactly that, and null_test.c calls it all.
#   symbols.sh LIBRARY SOURCE_FOLDER
set -euo pipefail
library=$1 tests=$2/tests/capi headers=$2/capi/*.h failed=0

same() {  # what, expected, actual
  diff <(echo "$2") <(echo "$3") && return
  echo "$1 differ from tests/capi/symbols.txt (left: the list)" >&2
  failed=1
}
listed=$(sort "$tests/symbols.txt")
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
declared=$(grep -o -h 'INFINI_API [^;(]*(' $headers | grep -o 'infini_[a-z_]*(' | tr -d '(' | sort)
called=$(grep -o 'infini_[a-z_]*(' "$tests/null_test.c" | tr -d '(' | sort -u | grep -Fxf "$tests/symbols.txt")

same 'exported symbols' "$listed" "$exported"
same 'declared functions' "$listed" "$declared"
same 'functions in null_test.c' "$listed" "$called"
exit "$failed"
