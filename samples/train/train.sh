#!/usr/bin/env bash
# Trains a model of 4.8 million parameters to find what it was told a million tokens ago; hours on two cores.
#   samples/train/train.sh [FOLDER [FLAG...]]     FOLDER: build/train; flags are passed on to `infini train`
# Run again, it goes on where it was stopped. INFINI names the command, where it is not in build/release.
set -euo pipefail
cd_back=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-$PWD/build/train}
case $folder in /*) ;; *) folder=$cd_back/$folder ;; esac
infini=${INFINI:-build/release/samples/infini}
mkdir -p "$folder"

# train NAME WHAT...: WHAT is trained to NAME.gguf, with a log and a state to go on from
train() {
  "$infini" train "${@:2}" --evaluate samples/train/evaluate.json --evaluate-every 500 --type f16 \
    --out "$folder/$1.gguf" --checkpoint "$folder/$1.state" --log "$folder/$1.jsonl"
  "$infini" train --plot "$folder/$1.jsonl" "$folder/$1.svg"
}

# First to find values again, farther and farther back; then many of them, all that far.
train recall --create samples/train/model.json --description samples/train/recall.json "${@:2}"
train names "$folder/recall.gguf" --description samples/train/names.json "${@:2}"
"$infini" passkey "$folder/names.gguf" --length 4K,32K --depth 0,0.5,0.95 --trials 3 --table
