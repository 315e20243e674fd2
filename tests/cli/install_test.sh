#!/usr/bin/env bash
# Installs a build into a fresh prefix, and uses it as a guest would: the README's program, by pkg-config and by CMake.
#   install_test.sh SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
fail() { echo "$1" >&2; exit 1; }

# The program in the README is the one that is compiled here.
awk '/^```$/ && on { exit } on { print } /^```c$/ { on = 1 }' "$source/README.md" >"$work/readme.c"  # the first program
diff "$source/samples/quickstart.c" "$work/readme.c" || fail "README.md does not print samples/quickstart.c as it is"
[ "$(wc -l <"$source/samples/quickstart.c")" -le 20 ] || fail "samples/quickstart.c is longer than 20 lines"

cmake --install "$build" --prefix "$prefix" >"$work/log" || { cat "$work/log"; fail "cmake --install failed"; }
find "$prefix" -type f -o -type l | sed "s|$prefix/||" | sort
package=$(dirname "$(find "$prefix" -name infini.pc)")

runs() {  # program
  local text
  text=$(cd "$source" && "$1") || fail "$1 failed"
  case $text in ', there was a'*) ;; *) fail "$1 wrote: $text" ;; esac
}

echo "== by pkg-config"
export PKG_CONFIG_PATH=$package
flags=$(pkg-config --cflags --libs infini)
echo "$flags"
case $flags in *"$prefix"/*) ;; *) fail "infini.pc does not point into the prefix that it was installed to" ;; esac
# shellcheck disable=SC2086  # flags are several words
cc -std=c99 -Wall -Wextra -Wpedantic -Werror "$work/readme.c" $flags "-Wl,-rpath,$(pkg-config --variable=libdir infini)" -o "$work/by_pkg_config"
runs "$work/by_pkg_config"

echo "== by CMake"
mkdir "$work/project"
cp "$work/readme.c" "$work/project/main.c"
cat >"$work/project/CMakeLists.txt" <<'PROJECT'
cmake_minimum_required(VERSION 3.25)
project(guest LANGUAGES C)
find_package(infini 0.1 REQUIRED)
add_executable(guest main.c)
target_link_libraries(guest PRIVATE infini::infini)
PROJECT
cmake -S "$work/project" -B "$work/guest" -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" || { cat "$work/log"; fail "find_package(infini) failed"; }
cmake --build "$work/guest" >"$work/log" || { cat "$work/log"; fail "the guest does not build"; }
runs "$work/guest/guest"

echo "== the command"
"$prefix/bin/infini" info "$source/samples/models/stories260K.gguf" >/dev/null
