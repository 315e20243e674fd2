#!/usr/bin/env bash
# Builds for linux-arm64 by the preset `arm64`, runs tests of that build under qemu-user, and hands snapshots to this
# machine's build and back: run.sh SOURCE BUILD EXCHANGE_OF_THIS_MACHINE [all]
# Without `all`: a part that takes minutes. qemu says nothing about speed.
set -euo pipefail
source=$1 build=$2 here=$3
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v "$tool" >/dev/null ||
    { echo "skipped: no \`$tool\` on the path: samples/packages.sh arm64 installs it"; exit 77; }
done
libraries=$(bash "$source/samples/dependencies.sh" arm64) ||
  { echo "skipped: Debian's libraries for arm64 cannot be had here"; exit 77; }
cd "$source"
cmake --preset arm64 -B "$build" -DINFINI_TESTS=ON -DCMAKE_SYSROOT="$libraries"
if [ "${4:-}" = all ]; then
  targets=(all) tests=(--tests-regex '^(unit|capi|cli|fuzz)_')
  # What looks at this machine's files, or measures time.
  tests+=(--exclude-regex '^(cli_(layers|format|plot|install)|capi_(kill|manners))$')
else
  targets=(arm64_exchange capi_snapshot unit_{blocks,gguf,kernels,parity,quant}_test)
  tests=(--tests-regex "^($(IFS='|'; echo "${targets[*]:1}"))\$")
fi
nice -n 10 cmake --build "$build" --parallel "$(nproc)" --target "${targets[@]}"
failed=0
ctest --test-dir "$build" --parallel "$(nproc)" \
  --label-regex ci "${tests[@]}" --no-tests=error --output-on-failure || failed=1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
there=(qemu-aarch64 -L "$libraries" "$build/tests/arm64/arm64_exchange")
wrong() { echo "$*" >&2; failed=1; }
# hand KIND FROM TO, both names of arrays: what FROM saved, TO opens and saves again as FROM does, to the last bit.
hand() {
  local kind=$1 name="$1, from $2 to $3"
  local -n from=$2 to=$3
  if ! { "${from[@]}" save "$work/first" "$kind" &&
    "${from[@]}" resave "$work/expected" "$kind" "$work/first" >"$work/goes_on" &&
    "${to[@]}" resave "$work/actual" "$kind" "$work/first" >"$work/went_on"; }; then wrong "$name: not opened"; return; fi
  cmp "$work/expected" "$work/actual" || wrong "$name: what was opened is not what was saved"
  [ "$kind" = memory ] || cmp "$work/first" "$work/actual" || wrong "$name: what is saved again differs"
  diff "$work/goes_on" "$work/went_on" || wrong "$name: it goes on differently"
  echo "$name: $(stat -c %s "$work/first") bytes"
}
here=("$here")
for kind in f32 bf16 memory; do
  hand "$kind" here there
  hand "$kind" there here
done
exit "$failed"
