#!/usr/bin/env bash
# What an operator starts the services with: systemd takes the unit, and what the container file names is there and is enough.
# operating.sh BUILD VERSION
. "$(dirname "$0")/common.sh"
need go python3
need apt-cache
use_stage "$1"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
samples=$source/samples

if command -v systemd-analyze >/dev/null; then # but for the program, which is nowhere yet
  sed 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' "$samples/infini.service" >"$folder/infini.service"
  systemd-analyze verify "$folder/infini.service" 2>&1 | grep 'infini\.service' && { echo "systemd does not take infini.service"; exit 1; }
else
  echo "skipped: infini.service, which needs \`systemd-analyze\`"
fi

# The service as the container file builds it, from what is installed here.
build=$(sed -n 's/.*\(go build -o \).*/\1/p' "$samples/Containerfile")
[ "$build" = "go build -o " ] || { echo "the container file builds the service in another way"; exit 1; }
for path in $(sed -n 's/^COPY \([^-][^ ]*\) .*/\1/p' "$samples/Containerfile"); do
  [ -e "$source/$path" ] || { echo "the container file copies $path, which is not there"; exit 1; }
done
(cd "$samples/go-service" && go build -o "$folder/service" .)
packages=$(sed -n 's/.*apt-get install -y --no-install-recommends \(.*\) \\$/\1/p' "$samples/Containerfile")
for package in $packages; do
  apt-cache show "$package" >/dev/null || { echo "the container file installs $package, which Debian does not have"; exit 1; }
done
in_container=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
  $packages | grep '^[a-z]')
for library in $(ldd "$folder/service" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | grep -v "^$1/"); do
  package=$({ dpkg -S "$library" "$(readlink -f "$library")" "/usr$library" 2>/dev/null || true; } | sed -n '1s/:.*//p')
  grep -x "$package" <<<"$in_container" >/dev/null || { echo "the container lacks $library, of ${package:-no package}"; exit 1; }
done
INFINI_TOKEN=secret INFINI_STORE=none "$folder/service" "$samples/models/stories260K.gguf" 127.0.0.1:0 >"$folder/log" 2>&1 &
trap 'kill $!; rm -rf "$folder"' EXIT
port=$(port_of "$folder/log" $!)
python3 -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$port/healthz')"
