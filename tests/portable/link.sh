#!/usr/bin/env bash
# What a portable library may need and show, and its size: link.sh LIBRARY SOURCE_FOLDER
set -euo pipefail
library=$1 failed=0
wrong() { echo "$*" >&2; failed=1; }

needed=$(readelf --dynamic --wide "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
while read -r name; do
  case $name in
    libc.so.6 | libm.so.6 | libpthread.so.0 | ld-linux-x86-64.so.2) ;;
    *) wrong "it needs $name; the C library alone is everywhere" ;;
  esac
done <<<"$needed"
if readelf --dynamic --wide "$library" | grep -E '\((RPATH|RUNPATH|TEXTREL)\)'; then wrong "it has a path of the build, or is not position-independent"; fi

# Versions of symbols that it asks for: glibc's, 2.34 or older.
versions=$(objdump --dynamic-syms "$library" | grep -F '*UND*' | grep -o '([A-Z][A-Za-z0-9_.]*)' | tr -d '()' | sort -uV)
while read -r version; do
  case $version in
    GLIBC_*) [ "$(printf '%s\n2.34\n' "${version#GLIBC_}" | sort -V | tail -n 1)" = 2.34 ] || wrong "it needs $version; 2.34 is the newest allowed" ;;
    *) wrong "it needs $version, which is not the C library's" ;;
  esac
done <<<"$versions"
undefined=$(objdump --dynamic-syms "$library" | awk '/[*]UND[*]/ && !/GLIBC_/ && $2 != "w" { print $NF }')
[ -z "$undefined" ] || wrong "it needs symbols without a version: $undefined"

exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
diff <(sort "$2/tests/capi/symbols.txt") <(echo "$exported") || wrong "it exports other symbols than tests/capi/symbols.txt (left) lists"

size=$(stat -Lc %s "$library")
[ "$size" -lt 25000000 ] || wrong "it has $size bytes; 25 MB are allowed"
if readelf --sections --wide "$library" | grep ' \.symtab ' >/dev/null; then wrong "it is not stripped"; fi
echo "needs: $(echo $needed); newest: $(tail -n 1 <<<"$versions"); $(wc -l <<<"$exported") symbols, $size bytes"
exit "$failed"
