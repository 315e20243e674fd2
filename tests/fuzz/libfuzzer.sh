#!/usr/bin/env bash
# Builds libFuzzer's targets in a folder of their own and lets them run side by side, from the committed seeds.
#   libfuzzer.sh FOLDER      INFINI_FUZZ_SECONDS: how long, 30
# What it finds is kept in FOLDER/found; a file that fails is named, and `FOLDER/tests/fuzz/fuzz_NAME FILE` repeats it.
set -euo pipefail
folder=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if ! echo 'int main() {}' | clang++ -fsanitize=address,undefined -x c++ - -o /dev/null 2>/dev/null; then
  echo "skipped: libFuzzer: clang++ with its sanitizers is missing, install clang and libclang-rt-dev"
  exit 77
fi
cmake -S "$here/../.." --preset fuzz -B "$folder" -DINFINI_SAMPLES=OFF -DINFINI_TESTS=ON >"$folder.log"
cmake --build "$folder" --parallel "$(nproc)" --target fuzz_gguf fuzz_snapshot

status=0 pids=()
for name in gguf snapshot; do
  mkdir -p "$folder/found/$name"
  "$folder/tests/fuzz/fuzz_$name" -max_total_time="${INFINI_FUZZ_SECONDS:-30}" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$folder/found/$name-" "$folder/found/$name" "$here/corpus/$name" >"$folder/$name.log" 2>&1 &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || status=1; done
for name in gguf snapshot; do
  echo "$name:"
  if [ $status = 0 ]; then grep -E 'number_of_executed_units|new_units_added|peak_rss' "$folder/$name.log"; else tail -n 60 "$folder/$name.log"; fi
done
exit $status
