#!/usr/bin/env bash
# Follows a language's README page from an empty project: writes the programs that it shows, each named in its first
# line, and runs its commands in order. readme.sh java|csharp|csharp-extensions|go BUILD VERSION
. "$(dirname "$0")/common.sh"
case $1 in
  java) need java javac; need_package java "$2" "$3" ;;
  csharp*) need dotnet; need_package "$1" "$2" "$3"; use_nuget "$2" ;;
  go) need go gcc pkg-config; use_stage "$2" ;;
esac
need python3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/project"
ln -s "$source" "$folder/infini"
ln -s "$2/packages" "$folder/packages"
cd "$folder/project"
cp "$source/samples/models/stories260K.gguf" model.gguf
cp "$source/samples/texts/wuthering_heights.txt" novel.txt
chat_model chat.gguf
[ "$1" != java ] || cp "$2/packages/infini-$3.jar" .

python3 - "$source/bindings/$1/README.md" <<'PY'
import re, sys
commands = 0
for language, text in re.findall(r'^```(\w+)\n(.*?)^```$', open(sys.argv[1], encoding='utf-8').read(), re.M | re.S):
    if language == 'sh':
        commands += 1
        open(f'{commands}.sh', 'w').write(text)
    else:
        name = re.match(r'(?://|<!--) (\S+)', text)[1]
        open(name, 'w').write(text)
PY
for ((i = 1; i <= $(ls ./*.sh | wc -l); i++)); do
  echo "== $(tr '\n' ';' <"$i.sh")"
  bash -eu "$i.sh" 2>&1 | tee "$i.log" || {
    grep -E 'NU1101|NU1102|NU1301' "$i.log" | grep -v 'package Infini' >/dev/null || exit 1
    echo "skipped: NuGet does not give what the page is followed with"
    exit 77
  }
done
if [ "$1" = csharp-extensions ]; then # it talks, goes on with what was said before, and embeds
  [ "$(sed '1,/Restored/d' 1.log | wc -w)" -gt 20 ] && grep -q "^64 numbers" 2.log
  exit
fi
# The ten lines say what the golden transcript begins with.
grep -q "there was a little girl named Lily" 1.log
# The training has learnt from the novel.
grep -ho "loss [0-9.]*" ./*.log | awk 'NR == 1 { before = $2 } NR == 2 { learnt = $2 < before - 0.3 } END { exit !learnt }'
