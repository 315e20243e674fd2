#!/usr/bin/env bash
# What a portable library, of this processor or for linux-arm64, and what uses it, may need and show, and the library's size:
# link.sh LIBRARY SOURCE_FOLDER [USER...]
set -euo pipefail
library=$1 source=$2 failed=0
shift 2
wrong() { echo "$*" >&2; failed=1; }
tools=
if readelf --file-header "$library" | grep AArch64 >/dev/null && [ "$(uname -m)" != aarch64 ]; then tools=aarch64-linux-gnu-; fi

needs() { readelf --dynamic --wide "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
needed=$(needs "$library")
for file in "$library" "$@"; do
  for name in $(needs "$file"); do
    case $name in
      libc.so.6 | libm.so.6 | libpthread.so.0 | ld-linux-x86-64.so.2 | ld-linux-aarch64.so.1) ;;
      "$(basename "$library")") [ "$file" != "$library" ] || wrong "it needs itself" ;;
      *) wrong "$(basename "$file") needs $name; the C library alone is everywhere" ;;
    esac
  done
done
if readelf --dynamic --wide "$library" | grep -E '\((RPATH|RUNPATH|TEXTREL)\)'; then wrong "it has a path of the build, or is not position-independent"; fi
for file in "$@"; do
  needs "$file" | grep -xF "$(basename "$library")" >/dev/null || wrong "$(basename "$file") does not use the library"
  [ "$(readelf --dynamic --wide "$file" | sed -n 's/.*(\(RPATH\|RUNPATH\)).*\[\(.*\)\]/\2/p')" = '$ORIGIN' ] ||
    wrong "$(basename "$file") does not look for the library beside itself"
done

# Versions of symbols that they ask for: glibc's, 2.34 or older.
versions=$(for file in "$library" "$@"; do "${tools}objdump" --dynamic-syms "$file"; done |
  awk '/[*]UND[*]/ && !/INFINI_/' | grep -o '([A-Z][A-Za-z0-9_.]*)' | tr -d '()' | sort -uV)
while read -r version; do
  case $version in
    GLIBC_*) [ "$(printf '%s\n2.34\n' "${version#GLIBC_}" | sort -V | tail -n 1)" = 2.34 ] || wrong "it needs $version; 2.34 is the newest allowed" ;;
    *) wrong "it needs $version, which is not the C library's" ;;
  esac
done <<<"$versions"
undefined=$("${tools}objdump" --dynamic-syms "$library" | awk '/[*]UND[*]/ && !/GLIBC_/ && $2 != "w" { print $NF }')
[ -z "$undefined" ] || wrong "it needs symbols without a version: $undefined"

exported=$("${tools}nm" -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
diff <(sort "$source/tests/capi/symbols.txt") <(echo "$exported") || wrong "it exports other symbols than tests/capi/symbols.txt (left) lists"

size=$(stat -Lc %s "$library")
[ "$size" -lt 25000000 ] || wrong "it has $size bytes; 25 MB are allowed"
if readelf --sections --wide "$library" | grep ' \.symtab ' >/dev/null; then wrong "it is not stripped"; fi
echo "needs: $(echo $needed); newest: $(tail -n 1 <<<"$versions"); $(wc -l <<<"$exported") symbols, $size bytes"
exit "$failed"
