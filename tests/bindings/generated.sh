#!/usr/bin/env bash
# The committed Go code is what SWIG generates, and no generated code has an unknown type: generated.sh BUILD
. "$(dirname "$0")/common.sh"
need swig
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
shopt -s nullglob # some languages may not be built
unknown=0
grep -rn SWIGTYPE_p_ "$1"/*/generated "$source/bindings/go/internal/native/native.go" || unknown=$?
case $unknown in
  1) ;; # none; 2: there is nothing to look at
  *) echo "the interface file lacks a typemap for these"; exit 1 ;;
esac
case $(swig -version) in
  *"Version 4.1."*) ;;
  *) echo "skipped: the committed code is of SWIG 4.1, another writes it differently"; exit 77 ;;
esac
"$source/bindings/go/generate.sh" "$folder"
for file in native.go native_wrap.c; do
  diff "$source/bindings/go/internal/native/$file" "$folder/$file" ||
    { echo "run bindings/go/generate.sh and commit what it writes"; exit 1; }
done
