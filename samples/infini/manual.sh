#!/bin/sh
# The manual page of the command, of what its --help says: manual.sh INFINI > infini.1
set -eu
infini=$1

# Text as it stands, for troff.
verbatim() { sed 's/\\/\\e/g; s/-/\\-/g; s/^\([.'"'"']\)/\\\&\1/'; }

help=$("$infini" --help)
commands=$(printf '%s\n' "$help" | awk '/^Subcommands:/ { on = 1; next } on && NF == 0 { exit } on && /^  [a-z]/ { print $1 }')
[ -n "$commands" ] || { echo "manual.sh: $infini --help lists no commands" >&2; exit 1; }
printf '.TH INFINI 1 "" "%s" "User Commands"\n' "$("$infini" --version)"
printf '.SH NAME\ninfini \\- Infini\\-attention language models on the command line\n'
printf '.SH SYNOPSIS\n.B infini\n.I COMMAND\n[\\fIARGUMENT\\fR...]\n'
printf '.SH DESCRIPTION\n.nf\n'
printf '%s\n' "$help" | verbatim
printf '.fi\n.SH COMMANDS\n'
for command in $commands; do
  printf '.SS infini %s\n.nf\n' "$command"
  "$infini" "$command" --help | verbatim
  printf '.fi\n'
done
