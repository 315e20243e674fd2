#!/usr/bin/env bash
# The suite of the C# package for Microsoft.Extensions.AI, with xunit: csharp_extensions.sh BUILD VERSION
. "$(dirname "$0")/common.sh"
need dotnet python3
need_package csharp-extensions "$@"
use_nuget "$1"
project=$1/csharp-extensions/tests
rm -rf "$project"
cp -r "$tests/csharp-extensions" "$project"
properties=(-p:InfiniPackage="$1/packages" -p:InfiniVersion="$2")
if ! dotnet restore "${properties[@]}" "$project" >"$project/log" 2>&1; then
  cat "$project/log"
  # Of packages that NuGet does not give, ours are not.
  grep -E 'NU1101|NU1102|NU1301' "$project/log" | grep -v 'package Infini' >/dev/null || exit 1
  echo "skipped: NuGet does not give what the tests are built with"
  exit 77
fi
chat_model "$project/chat.gguf"

# A PostgreSQL of the test's own, which does not run as root and is reached through its folder alone.
postgres=$({ compgen -G '/usr/lib/postgresql/*/bin' || :; } | sort -V | tail -1)
if [ -x "$postgres/initdb" ] && id postgres >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  folder=$(mktemp -d)
  chown postgres "$folder"
  as_postgres() { (cd "$folder" && runuser -u postgres -- "$@"); }
  trap 'as_postgres "$postgres/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null; rm -rf "$folder"' EXIT
  as_postgres "$postgres/initdb" -D "$folder/data" --auth=trust --no-sync >"$project/log"
  as_postgres "$postgres/pg_ctl" -D "$folder/data" -w -l "$folder/log" -o "-k $folder -c listen_addresses= -c fsync=off" start >"$project/log"
  export INFINI_POSTGRES="Host=$folder;Username=postgres;Database=postgres"
else
  echo "skipped: conversations in PostgreSQL, which needs its server (Debian package postgresql) and root, to start it as another user"
fi
export INFINI_CHAT=$project/chat.gguf INFINI_SOURCE=$source
dotnet test --no-restore --nologo --logger 'console;verbosity=normal' --blame-hang-timeout 300s --blame-hang-dump-type none \
  "${properties[@]}" "$project"
