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

"$infini" train --create samples/train/model.json --description samples/train/recall.json \
  --evaluate samples/train/evaluate.json --evaluate-every 500 \
  --out "$folder/model.gguf" --type f16 --checkpoint "$folder/model.state" --log "$folder/model.jsonl" "${@:2}"
"$infini" train --plot "$folder/model.jsonl" "$folder/model.svg"
"$infini" passkey "$folder/model.gguf" --length 4K,32K --depth 0,0.5,0.95 --trials 3 --table
