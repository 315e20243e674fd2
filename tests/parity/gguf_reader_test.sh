#!/bin/sh
# What the library saves, another GGUF reader reads as the file it came from:
#
#   gguf_reader_test.sh SAVE SOURCE_DIR      SAVE: the program of save.c
set -eu

save=$1 source=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A created model is compared with itself, opened and saved again: what it is, is in its file.
"$save" "$work/created.gguf" '{"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "vocabulary": 100, "hidden": 96, "update": "linear"}'
set --
for original in "$source/samples/models/stories260K.gguf" "$source/tests/fixtures/infini/delta-ungated-mqa.gguf" \
  "$work/created.gguf"; do
  saved=$work/saved-$(basename "$original")
  "$save" "$saved" "$original"
  set -- "$@" "$saved" "$original"
done
sh "$here/gguf_reader.sh" "$@"
