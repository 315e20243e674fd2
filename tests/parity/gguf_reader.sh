#!/bin/sh
# Checks with an independent reader that models saved by infini have the keys and the tensors (name, shape, type)
# of the files they were made from:
#
#   gguf_reader.sh SAVED ORIGINAL [SAVED ORIGINAL]...
#
# 0: the same; 1: they differ, or the reader refuses one; 77: skipped, because node or the package is missing.
# INFINI_NODE_PACKAGES may name a folder in which the package is installed already.
set -eu

packages="@huggingface/gguf@0.4.6 @huggingface/tasks@0.21.54"
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] && [ $(($# % 2)) -eq 0 ] || { echo "usage: $0 SAVED ORIGINAL [SAVED ORIGINAL]..." >&2; exit 2; }

skip() { echo "skipped: $1"; exit 77; }
command -v node >/dev/null || skip "node is not installed"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || skip "node is older than 20"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
folder=${INFINI_NODE_PACKAGES:-}
if [ -z "$folder" ]; then
  command -v npm >/dev/null || skip "npm is not installed"
  folder=$work/packages
  # shellcheck disable=SC2086  # two packages, two words
  npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=30000 \
    $packages >"$work/log" 2>&1 || skip "npm cannot install $packages: $(grep -m 1 'npm error' "$work/log")"
fi

while [ $# -gt 0 ]; do
  node "$here/gguf_reader.mjs" "$folder" "$1" >"$work/saved"
  node "$here/gguf_reader.mjs" "$folder" "$2" >"$work/original"
  if ! diff "$work/original" "$work/saved" >"$work/difference"; then
    echo "$1 differs from $2:"
    head -n 20 "$work/difference" | cut -c 1-400
    exit 1
  fi
  echo "$1: the same $(grep -c '^{"key"' "$work/saved") keys and $(grep -c '^{"name"' "$work/saved" || true) tensors as $2"
  shift 2
done
