#!/bin/sh
# Generates internal/native/native.go and native_wrap.c from bindings/infini.i with SWIG 4.1, into FOLDER (default: in
# place). Both are committed: who uses the module needs neither SWIG nor this script.
#   bindings/go/generate.sh [FOLDER]
set -eu
cd "$(dirname "$0")/.."
folder=${1:-go/internal/native}
swig -go -cgo -intgosize 64 -Wall -Werror -I../capi -outdir "$folder" -o "$folder/native_wrap.c" infini.i
