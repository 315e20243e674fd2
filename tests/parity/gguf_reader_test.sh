#!/bin/sh
# What the library saves, another GGUF reader reads as the file it came from:
#
#   gguf_reader_test.sh SAVE SOURCE_DIR [INFINI]      SAVE: the program of save.c; INFINI: the command
set -eu

save=$1 source=$2 infini=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A created model is compared with itself, opened and saved again: what it is, is in its file.
"$save" "$work/created.gguf" '{"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "vocabulary": 100, "hidden": 96, "update": "linear"}'
set -- "$source/samples/models/stories260K.gguf" "$source/tests/fixtures/infini/delta-ungated-mqa.gguf" "$work/created.gguf"
if [ -n "$infini" ]; then  # so is what training made of a plain model
  "$infini" train "$source/samples/models/stories260K.gguf" --memory open --text "$source/samples/texts/lord_jim.txt" \
    --segment 64 --segments 2 --tokens 128 --steps 2 --type f16 --out "$work/trained.gguf" >/dev/null
  set -- "$@" "$work/trained.gguf"
fi
for original do
  shift
  saved=$work/saved-$(basename "$original")
  "$save" "$saved" "$original"
  set -- "$@" "$saved" "$original"
done
sh "$here/gguf_reader.sh" "$@"
