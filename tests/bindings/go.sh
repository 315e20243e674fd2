#!/usr/bin/env bash
# The Go module's suite, under the race detector: go.sh BUILD VERSION
. "$(dirname "$0")/common.sh"
need go gcc pkg-config
use_stage "$1"
export INFINI_TRAINING=$1/training.txt INFINI_CHAT=$1/chat-go.gguf
chat_model "$INFINI_CHAT"
unformatted=$(gofmt -l "$source"/bindings/go/*.go "$source/bindings/go/internal/native/error.go" "$tests/go")
[ -z "$unformatted" ] || { echo "not as gofmt writes it: $unformatted"; exit 1; }
cd "$source/bindings/go" && go vet .
cd "$tests/go" && go vet . && go test -race -count=1 .
