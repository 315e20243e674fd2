#!/usr/bin/env bash
# The golden transcript through the C interface: c.sh GOLDEN-PROGRAM
. "$(dirname "$0")/common.sh"
"$1" "$source/samples/models/stories260K.gguf" | diff "$tests/golden.txt" -
