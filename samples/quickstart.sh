#!/usr/bin/env bash
# From a fresh Debian 12 to a language model that has read a novel in fixed memory and writes on.
#   samples/quickstart.sh [MODEL.gguf [TEXT.txt]]
# Without arguments: the 260K-parameter model and the novel that the project ships. Larger: any llama-style GGUF.
set -euo pipefail
cd_back=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
absolute() { case $1 in /*) echo "$1" ;; *) echo "$cd_back/$1" ;; esac; }
model=$(absolute "${1:-$PWD/samples/models/stories260K.gguf}")
text=$(absolute "${2:-$PWD/samples/texts/wuthering_heights.txt}")
for file in "$model" "$text"; do
  [ -r "$file" ] || { echo "cannot read $file" >&2; exit 1; }
done

bash samples/packages.sh build
cmake --preset release -DINFINI_TESTS=OFF
cmake --build --preset release --parallel "$(nproc)"
infini=build/release/samples/infini

echo
echo "== the model"
"$infini" info "$model"
echo
echo "== reads $(basename "$text"), $(wc -w <"$text") words, and its memory does not grow"
"$infini" feed "$model" --file "$text" --every 65536
echo
echo "== reads it and writes on"
"$infini" generate "$model" --file "$text" --max-tokens 200 --temperature 0.8 --seed 1
echo
echo "== what others would hold for that past"
"$infini" footprint "$model"
