#!/usr/bin/env bash
# What the library for Windows, and what uses it, may need and show, and the library's size: windows_link.sh SOURCE LIBRARY [USER...]
set -euo pipefail
export LC_ALL=C
source=$1 library=$2 failed=0
shift 2
wrong() { echo "$*" >&2; failed=1; }
needs() { x86_64-w64-mingw32-objdump -p "$1" | sed -n 's/^\tDLL Name: //p' | sort; }

# Of Windows itself, and the library of those that use it: exactly these, so that a new one is noticed.
[ "$(needs "$library" | tr '\n' ' ')" = "KERNEL32.dll api-ms-win-core-synch-l1-2-0.dll msvcrt.dll " ] || wrong "$(basename "$library") needs" $(needs "$library")
for file in "$@"; do
  for name in $(needs "$file"); do
    case $name in
      KERNEL32.dll | api-ms-win-core-synch-l1-2-0.dll | msvcrt.dll | "$(basename "$library")") ;;
      *) wrong "$(basename "$file") needs $name" ;;
    esac
  done
  needs "$file" | grep -x "$(basename "$library")" >/dev/null || wrong "$(basename "$file") does not use the library"
done
exported=$(x86_64-w64-mingw32-objdump -p "$library" |
  awk '/^\[Ordinal\/Name Pointer\] Table/ { inside = 1; next } /^$/ { inside = 0 } inside { print $NF }' | sort)
diff <(sort "$source/tests/capi/symbols.txt") <(echo "$exported") || wrong "it exports other symbols than tests/capi/symbols.txt (left) lists"
size=$(stat -c %s "$library")
[ "$size" -lt 25000000 ] || wrong "it has $size bytes; 25 MB are allowed"
echo "needs:" $(needs "$library")"; $(wc -l <<<"$exported") symbols, $size bytes"
exit "$failed"
