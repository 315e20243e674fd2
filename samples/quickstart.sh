#!/usr/bin/env bash
# From a fresh Debian 12 to a language model that is told something amid a whole novel, and knows it at the end.
#   samples/quickstart.sh [MODEL.gguf [TEXT.txt]]
# Without arguments: the model that the project has trained to remember, and a novel that it was not trained on.
# Another MODEL reads the text and writes on.
set -euo pipefail
cd_back=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
absolute() { case $1 in /*) echo "$1" ;; *) echo "$cd_back/$1" ;; esac; }
model=$(absolute "${1:-$PWD/samples/models/recall.gguf}")
text=$(absolute "${2:-$PWD/samples/texts/lord_jim.txt}")
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
if [ $# -eq 0 ]; then
  memory=build/release/quickstart.snap
  lines=$(wc -l <"$text")
  told=' The river key is 71432. Remember it. 71432 is the river key.'
  echo
  echo "== reads $(basename "$text"), $(wc -w <"$text") words; in the middle it is told:$told"
  { head -n $((lines / 2)) "$text" && echo "$told" && tail -n +$((lines / 2 + 1)) "$text"; } |
    "$infini" feed "$model" --file - --every 65536 --save "$memory"
  echo "Whatever its length: the session takes as much memory at the end as at the beginning."
  echo
  echo "== its memory was saved; another process restores it, and asks"
  printf 'What is the river key? The river key is'
  "$infini" generate "$model" --load "$memory" --prompt ' What is the river key? The river key is ' --max-tokens 5
else
  echo
  echo "== reads $(basename "$text"), $(wc -w <"$text") words, and writes on"
  "$infini" feed "$model" --file "$text" --every 65536
  "$infini" generate "$model" --file "$text" --max-tokens 200 --temperature 0.8 --seed 1
fi
echo
echo "== what others would hold for that past"
"$infini" footprint "$model"
