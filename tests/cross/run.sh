#!/usr/bin/env bash
# Builds for another system by its preset, runs tests of that build by an emulator, and hands snapshots and models to this
# machine's build and back: run.sh arm64|windows SOURCE BUILD EXCHANGE_OF_THIS_MACHINE [all]
# Without `all`: a part that takes minutes. An emulator says nothing about speed.
set -euo pipefail
system=$1 source=$2 build=$3 here=$4 all=${5:-}
PATH=$PATH:/usr/lib/wine  # where Debian has wine64
case $system in
  arm64) tools=(aarch64-linux-gnu-g++ qemu-aarch64) ;;
  windows) tools=(x86_64-w64-mingw32-g++-posix wine64) ;;
esac
for tool in "${tools[@]}"; do
  command -v "$tool" >/dev/null ||
    { echo "skipped: no \`$tool\` on the path: samples/packages.sh $system installs it"; exit 77; }
done
libraries=$(bash "$source/samples/dependencies.sh" "$system") ||
  { echo "skipped: the libraries for $system cannot be had here"; exit 77; }
# What looks at this machine's files, or measures time.
left_out='cli_(layers|format|plot)|capi_(kill|manners)'
case $system in
  arm64)
    configure=(-DCMAKE_SYSROOT="$libraries")
    types=(q8_0)  # q4_k comes out different in some bytes
    part=(capi_snapshot unit_{blocks,gguf,kernels,parity,quant}_test)
    ;;
  windows)
    configure=(-DINFINI_DEPENDENCIES="$libraries")
    types=(q8_0 q4_k)
    part=(capi_{model,session,snapshot,threads} unit_{file_windows,parity}_test)
    ;;
esac
cd "$source"
if [ "$all" = all ]; then
  configure+=(-DINFINI_BINDINGS=ON)
  targets=(all) tests=(--tests-regex '^(unit|capi|cli|fuzz|cross)_' --exclude-regex "^($left_out)\$")
else
  targets=(cross_exchange "${part[@]}") tests=(--tests-regex "^($(IFS='|'; echo "${part[*]}")|cross_link)\$")
fi
cmake --preset "$system" -B "$build" -DINFINI_TESTS=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=ON "${configure[@]}"
nice -n 10 cmake --build "$build" --parallel "$(nproc)" --target "${targets[@]}"
# Wine makes its folder at its first run, which has to be alone.
[ "$system" != windows ] || "$build/tests/cross/run_cross_exchange" >/dev/null 2>&1 || true
failed=0
ctest --test-dir "$build" --parallel "$(nproc)" \
  --label-regex ci "${tests[@]}" --no-tests=error --output-on-failure || failed=1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong() { echo "$*" >&2; failed=1; }
# hand KIND FROM TO, both names of arrays: what FROM saved, TO opens and saves again as FROM does, to the last bit.
hand() {
  local kind=$1 name="$1, from $2 to $3"
  local -n from=$2 to=$3
  if ! { "${from[@]}" save "$work/first" "$kind" &&
    "${from[@]}" resave "$work/expected" "$kind" "$work/first" | tr -d '\r' >"$work/goes_on" &&
    "${to[@]}" resave "$work/actual" "$kind" "$work/first" | tr -d '\r' >"$work/went_on"; }; then wrong "$name: not opened"; return; fi
  cmp "$work/expected" "$work/actual" || wrong "$name: what was opened is not what was saved"
  [ "$kind" = memory ] || cmp "$work/first" "$work/actual" || wrong "$name: what is saved again differs"
  diff "$work/goes_on" "$work/went_on" || wrong "$name: it goes on differently"
  echo "$name: $(stat -c %s "$work/first") bytes"
}
here=("$here") there=("$build/tests/cross/run_cross_exchange")
for kind in f32 bf16 memory; do
  hand "$kind" here there
  hand "$kind" there here
done
# Models: both write the same, and from what the other wrote.
for type in "${types[@]}"; do
  if ! { "${here[@]}" quantize "$work/ours" "$type" && "${there[@]}" quantize "$work/theirs" "$type" &&
    "${here[@]}" quantize "$work/ours_again" bf16 "$work/theirs" &&
    "${there[@]}" quantize "$work/theirs_again" bf16 "$work/ours"; }; then wrong "a model as $type: not written"; continue; fi
  cmp "$work/ours" "$work/theirs" && cmp "$work/ours_again" "$work/theirs_again" || wrong "a model as $type: written differently"
  echo "a model as $type: $(stat -c %s "$work/ours") bytes"
done
# The jar and the NuGet package of this machine's build, with those libraries too.
if [ "$all" = all ]; then
  cmake --preset release -B "$build/packages" -DINFINI_BINDINGS=ON -DINFINI_TESTS=ON "-DINFINI_${system^^}=$build"
  made=$(cmake --build "$build/packages" --target help)
  for package in java csharp; do
    if [[ $made == *infini_${package}_package* ]]; then
      nice -n 10 cmake --build "$build/packages" --parallel "$(nproc)" --target "infini_${package}_package"
    fi  # else the test says what it misses
  done
  ctest --test-dir "$build/packages" --tests-regex '^bindings_systems$' --no-tests=error --verbose || failed=1
fi
exit "$failed"
