#!/usr/bin/env bash
# Trains a model of 5.3 million parameters to find what it was told a million tokens ago; 26 minutes on one core.
#   samples/train/train.sh [FOLDER [FLAG...]]     FOLDER: build/train; flags are passed on to `infini train`
# Run again, it goes on where it was stopped. INFINI names the command, where it is not in build/release.
set -euo pipefail
cd_back=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-$PWD/build/train}
case $folder in /*) ;; *) folder=$cd_back/$folder ;; esac
infini=${INFINI:-build/release/samples/infini}
mkdir -p "$folder"

# train NAME TYPE WHAT...: WHAT is trained to NAME.gguf, with a log and a state to go on from
train() {
  "$infini" train "${@:3}" --description "samples/train/$1.json" --threads 1 --type "$2" \
    --out "$folder/$1.gguf" --checkpoint "$folder/$1.state" --log "$folder/$1.jsonl"
  command -v gnuplot >/dev/null && tests/bench/plot.py "$folder/$1.jsonl" "$folder/$1.svg" || :
}

# First to find names, then their digits in order, then both far back among much else.
train names f32 --create samples/train/model.json "${@:2}"
train digits f32 "$folder/names.gguf" "${@:2}"
train recall f16 "$folder/digits.gguf" --evaluate samples/train/evaluate.json --evaluate-every 0 "${@:2}"
"$infini" passkey "$folder/recall.gguf" --length 4K,32K --depth 0,0.5,0.95 --trials 3 --table
