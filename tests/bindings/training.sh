#!/usr/bin/env bash
# The small training through the C interface, twice alike, for the other languages to compare with:
# training.sh TRAINING-PROGRAM BUILD
. "$(dirname "$0")/common.sh"
train() { "$1" "$source/samples/models/stories260K.gguf" "$tests/golden.txt" "$2/training.gguf"; }
train "$@" >"$2/training.txt"
train "$@" | diff "$2/training.txt" -
grep "^, there was a little girl named Lily" "$2/training.txt" # by heart
