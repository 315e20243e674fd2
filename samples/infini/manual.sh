#!/usr/bin/env bash
# The manual page of the command, of what its --help says: manual.sh INFINI > infini.1
set -euo pipefail
infini=$1
. "$(dirname "$0")/completion.bash"

# Text as it stands, for troff.
verbatim() { sed 's/\\/\\e/g; s/-/\\-/g; s/^\([.'"'"']\)/\\\&\1/'; }

commands=$(_infini_commands "$infini")
[ -n "$commands" ] || { echo "manual.sh: $infini --help lists no commands" >&2; exit 1; }
printf '.TH INFINI 1 "" "%s" "User Commands"\n' "$("$infini" --version)"
printf '.SH NAME\ninfini \\- Infini\\-attention language models on the command line\n'
printf '.SH SYNOPSIS\n.B infini\n.I COMMAND\n[\\fIARGUMENT\\fR...]\n'
printf '.SH DESCRIPTION\n.nf\n'
"$infini" --help | verbatim
printf '.fi\n.SH COMMANDS\n'
for command in $commands; do
  printf '.SS infini %s\n.nf\n' "$command"
  "$infini" "$command" --help | verbatim
  printf '.fi\n'
done
