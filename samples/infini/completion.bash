# Completion of the command `infini` for bash: commands, flags and the values that a flag allows, as its --help says them; else files.
_infini_commands() {  # of an executable
  "$1" --help 2>/dev/null | awk '!NF { on = 0 } on && /^  [a-z]/ { print $1 } /^Subcommands:/ { on = 1 }'
}
_infini() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} offered
  if [ "$COMP_CWORD" -eq 1 ]; then
    offered="--help --version $(_infini_commands "${COMP_WORDS[0]}")"
  elif [[ $word == -* ]]; then
    offered=$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --help 2>/dev/null | grep -oE '^ +(-h,)?--[a-z0-9-]+' | sed 's/.*--/--/')
  else  # what stands in parentheses behind the flag, on its line or the next one
    offered=$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --help 2>/dev/null | awk -v flag="$before" '
      on && /^  +-/ { exit }
      $1 == flag { on = 1 }
      on && match($0, /\([a-z0-9_]+(, [a-z0-9_]+)+\)$/) { print substr($0, RSTART + 1, RLENGTH - 2); exit }' | tr -d ,)
  fi
  mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$word")
} && complete -o default -o bashdefault -F _infini infini
