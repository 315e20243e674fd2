#!/usr/bin/env bash
# The client of samples/java-service writes what the model says: java.sh SAMPLES ADDRESS TOKEN
set -euo pipefail
said=$(printf 'Who is "Lily"?\nAnd \\Tom?\n' | timeout 120 env INFINI_TOKEN="$3" java "$1/java-service/client/Chat.java" "http://$2/v1" any of-java)
[ ${#said} -gt 20 ] || { echo "it wrote: $said"; exit 1; }
! INFINI_TOKEN=wrong java "$1/java-service/client/Chat.java" "http://$2/v1" any <<<"Hello" 2>/dev/null || { echo "a wrong token does"; exit 1; }
