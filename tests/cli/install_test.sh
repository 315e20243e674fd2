#!/usr/bin/env bash
# Installs a build as packagers do, and uses what is installed as a guest would: the README's program, by pkg-config and by
# CMake, and the command. Trees that are laid out otherwise take their objects from the build: nothing is compiled again.
#   install_test.sh SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$1" >&2; exit 1; }
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "$* failed"; }; }

# The program in the README is the one that is compiled here.
program=$work/readme.c
awk '/^```$/ && on { exit } on { print } /^```c$/ { on = 1 }' "$source/README.md" >"$program"  # the first program
diff "$source/samples/quickstart.c" "$program" || fail "README.md does not print samples/quickstart.c as it is"
[ "$(wc -l <"$source/samples/quickstart.c")" -le 20 ] || fail "samples/quickstart.c is longer than 20 lines"

runs() {  # program
  local text
  text=$(cd "$source" && "$1") || fail "$1 failed"
  case $text in ', there was a'*) ;; *) fail "$1 wrote: $text" ;; esac
}

by_pkg_config() {  # the folder of libraries, the one of headers, [--static]
  local flags
  export PKG_CONFIG_PATH=$1/pkgconfig
  flags=$(pkg-config --cflags --libs ${3:-} infini)
  # Its words are quoted for a shell, where a folder has a space.
  [ "$(eval realpath "$(pkg-config --variable=includedir infini)")" = "$2" ] || fail "infini.pc does not point to $2: $flags"
  quietly eval "cc -std=c99 -Wall -Wextra -Wpedantic -Werror '$program' $flags '-Wl,-rpath,$1' -o '$work/by_pkg_config'"
  runs "$work/by_pkg_config"
}

mkdir "$work/guest"
cp "$program" "$work/guest/main.c"
cat >"$work/guest/CMakeLists.txt" <<'PROJECT'
cmake_minimum_required(VERSION 3.25)
project(guest LANGUAGES ${LANGUAGES})
find_package(infini 0.1 REQUIRED)
add_executable(guest main.c)
target_link_libraries(guest PRIVATE infini::infini)
PROJECT
by_cmake() {  # the folder of libraries, [languages]
  rm -rf "$work/guest/build"
  quietly cmake -G Ninja -S "$work/guest" -B "$work/guest/build" "-Dinfini_DIR=$1/cmake/infini" "-DLANGUAGES=${2:-C}"
  quietly cmake --build "$work/guest/build"
  runs "$work/guest/build/guest"
}

command_runs() { quietly "$1/infini" info "$source/samples/models/stories260K.gguf"; }  # the folder of programs

echo "== a prefix with a space"
quietly cmake --install "$build" --prefix "$work/a prefix"
find "$work/a prefix" -type f -o -type l | sed "s|$work/a prefix/||" | sort
lib=$(cd "$work/a prefix" && dirname "$(dirname "$(find . -name infini.pc)")")
lib=${lib#./}
by_pkg_config "$work/a prefix/$lib" "$work/a prefix/include"
by_cmake "$work/a prefix/$lib"
command_runs "$work/a prefix/bin"

echo "== moved"
mv "$work/a prefix" "$work/moved"
by_pkg_config "$work/moved/$lib" "$work/moved/include"
by_cmake "$work/moved/$lib"
command_runs "$work/moved/bin"

echo "== into a staging folder"
DESTDIR="$work/stage" quietly cmake --install "$build" --prefix /opt/infini
by_pkg_config "$work/stage/opt/infini/$lib" "$work/stage/opt/infini/include"
command_runs "$work/stage/opt/infini/bin"

# A compiler launcher: takes an object from the build where there is one.
cat >"$work/reuse" <<REUSE
#!/bin/sh
for word; do
  case \$last in -o) output=\$word ;; -MF) depends=\$word ;; esac
  last=\$word
done
object="$build/\${output#infini/}"
[ -f "\$object" ] || exec "\$@"
cp "\$object" "\$output" && echo "\$output:" >"\$depends"
REUSE
chmod +x "$work/reuse"
settings=(-G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_C_COMPILER_LAUNCHER=$work/reuse" "-DCMAKE_CXX_COMPILER_LAUNCHER=$work/reuse"
  -DINFINI_MPI=OFF -DINFINI_TESTS=OFF)
cmake -LA -N "$build" | grep '^INFINI_MPI:STRING=OFF$' >/dev/null || settings+=(-DINFINI_MPI=AUTO)

laid_out() {  # [-D...]: the folders of an installation
  quietly cmake -S "$source" -B "$work/tree" "${settings[@]}" "$@"
  quietly cmake --build "$work/tree" --target infini infini_command infini_manual
}

echo "== an absolute folder of libraries, a relative one of headers"
laid_out "-DCMAKE_INSTALL_PREFIX=$work/with space" "-DCMAKE_INSTALL_LIBDIR=$work/lib space" -DCMAKE_INSTALL_INCLUDEDIR=headers
for component in library development tools; do quietly cmake --install "$work/tree" --component $component; done
by_pkg_config "$work/lib space" "$work/with space/headers"
by_cmake "$work/lib space"
command_runs "$work/with space/bin"
DESTDIR="$work/stage2" quietly cmake --install "$work/tree"
[ -f "$work/stage2$work/lib space/pkgconfig/infini.pc" ] || fail "DESTDIR does not stand before an absolute folder"

echo "== every folder absolute, each with a root of its own"
laid_out "-DCMAKE_INSTALL_PREFIX=$work/none" "-DCMAKE_INSTALL_LIBDIR=$work/out/lib" "-DCMAKE_INSTALL_INCLUDEDIR=$work/dev/include" \
  "-DCMAKE_INSTALL_BINDIR=$work/programs/bin"
quietly cmake --install "$work/tree"
by_pkg_config "$work/out/lib" "$work/dev/include"
by_cmake "$work/out/lib"
command_runs "$work/programs/bin"

echo "== relative folders of other depths, moved"
laid_out "-DCMAKE_INSTALL_PREFIX=$work/deep" -DCMAKE_INSTALL_LIBDIR=lib/one/two -DCMAKE_INSTALL_INCLUDEDIR=include/c -DCMAKE_INSTALL_BINDIR=programs
quietly cmake --install "$work/tree"
mv "$work/deep" "$work/deeper"
by_pkg_config "$work/deeper/lib/one/two" "$work/deeper/include/c"
by_cmake "$work/deeper/lib/one/two"
command_runs "$work/deeper/programs"

echo "== a static library, built inside another project, which keeps its settings"
mkdir "$work/parent"
cp "$program" "$work/parent/main.c"
cat >"$work/parent/CMakeLists.txt" <<PROJECT
cmake_minimum_required(VERSION 3.25)
project(parent LANGUAGES C CXX)
set(BUILD_SHARED_LIBS OFF)
set(CMAKE_CXX_STANDARD 11)
macro(settings list)
  set(\${list} "")
  foreach(property COMPILE_OPTIONS COMPILE_DEFINITIONS LINK_OPTIONS INCLUDE_DIRECTORIES LINK_DIRECTORIES)
    get_directory_property(value \${property})
    list(APPEND \${list} "\${property}=\${value}")
  endforeach()
  get_cmake_property(names VARIABLES)
  list(FILTER names INCLUDE REGEX "^(CMAKE_|BUILD_)")
  foreach(name \${names})
    list(APPEND \${list} "\${name}=\${\${name}}")
  endforeach()
  list(FILTER \${list} EXCLUDE REGEX "^CMAKE_(INSTALL|PROJECT)_")  # of the cache, which is everyone's
endmacro()
get_cmake_property(cache_before CACHE_VARIABLES)
settings(before)
add_subdirectory("$source" infini)
settings(after)
get_cmake_property(cache_after CACHE_VARIABLES)
list(REMOVE_ITEM after \${before})
if(after)
  message(FATAL_ERROR "infini changes its parent's settings: \${after}")
endif()
list(REMOVE_ITEM cache_after \${cache_before})
list(FILTER cache_after EXCLUDE REGEX "^_?_?(infini|INFINI|CMAKE_INSTALL|CMAKE_PROJECT|prefix_result|dnnl|DNNL|OpenMP|nlohmann_json|PKG_CONFIG|OPENCL|OpenCL|pkgcfg_lib_INFINI|FIND_PACKAGE|_)")
if(cache_after)
  message(FATAL_ERROR "infini leaves names of others in the cache: \${cache_after}")
endif()
add_executable(guest main.c)
target_link_libraries(guest PRIVATE infini::infini)
PROJECT
quietly cmake -S "$work/parent" -B "$work/child" "${settings[@]}" "-DCMAKE_INSTALL_PREFIX=$work/static" -DCMAKE_INSTALL_LIBDIR=lib
quietly cmake --build "$work/child"
runs "$work/child/guest"
quietly cmake --install "$work/child"
[ ! -e "$work/static" ] || fail "infini installs itself with a parent that did not ask for it: $(find "$work/static")"
quietly cmake -S "$work/parent" -B "$work/child" -DINFINI_INSTALL=ON
quietly cmake --install "$work/child"
[ -f "$work/static/lib/libinfini.a" ] || fail "BUILD_SHARED_LIBS=OFF installs no libinfini.a"
[ -z "$(find "$work/static" -name '*.so*')" ] || fail "BUILD_SHARED_LIBS=OFF installs a shared library"
by_pkg_config "$work/static/lib" "$work/static/include" --static
by_cmake "$work/static/lib" "C;CXX"
if cmake -G Ninja -S "$work/guest" -B "$work/c" "-Dinfini_DIR=$work/static/lib/cmake/infini" -DLANGUAGES=C >"$work/log" 2>&1; then
  fail "a project without C++ links a static library of C++"
fi
grep -q "LANGUAGES C CXX" "$work/log" || { cat "$work/log"; fail "a project without C++ is not told what it lacks"; }

echo "== packages of Debian"
if ! command -v dpkg-shlibdeps >/dev/null; then
  echo "skipped: packages of Debian, because there is no \`dpkg-shlibdeps\` on the path (Debian package dpkg-dev)"
  exit
fi
rm -rf "$work/tree"
quietly cmake -S "$source" --preset debian -B "$work/tree" "${settings[@]}"
quietly cmake --build "$work/tree" --target infini infini_command infini_manual
(cd "$work/tree" && quietly cpack -G DEB -B "$work/packages")
for package in libinfini0 libinfini-dev infini-tools; do
  deb=$(echo "$work/packages/$package"_*.deb)
  [ -f "$deb" ] || fail "there is no package $package: $(ls "$work/packages")"
  dpkg-deb --info "$deb"
  dpkg-deb --contents "$deb" | awk '{ print $6 }' | tee "$work/contents"
  grep -q "/usr/share/doc/$package/copyright" "$work/contents" || fail "$package has no copyright"
  dpkg-deb -x "$deb" "$work/installed"
  dpkg-deb --field "$deb" Depends >"$work/$package"
done
grep -q 'libdnnl' "$work/libinfini0" && grep -q 'libc6 (>= ' "$work/libinfini0" || fail "libinfini0 does not ask for what it links"
grep -q 'libinfini0 (= ' "$work/libinfini-dev" && grep -q 'libinfini0 (= ' "$work/infini-tools" || fail "packages do not ask for their library"
lib=$(dirname "$(dirname "$(find "$work/installed" -name infini.pc)")")
by_pkg_config "$lib" "$work/installed/usr/include"
by_cmake "$lib"
LD_LIBRARY_PATH=$lib command_runs "$work/installed/usr/bin"
if readelf -d "$work/installed/usr/bin/infini" | grep -E 'RPATH|RUNPATH'; then fail "an installed command looks for libraries where none are"; fi
gunzip -c "$work/installed/usr/share/man/man1/infini.1.gz" 2>/dev/null >"$work/infini.1" || cp "$work/installed/usr/share/man/man1/infini.1" "$work"
for command in feed generate train; do grep -q "^.SS infini $command" "$work/infini.1" || fail "the manual page lacks $command"; done

completes() {  # words typed, and one that must be offered
  LD_LIBRARY_PATH=$lib PATH=$work/installed/usr/bin:$PATH bash -c '
    . "$1"; COMP_WORDS=($2); case $2 in *" ") COMP_WORDS+=("") ;; esac; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _infini; printf "%s\n" "${COMPREPLY[@]}"
  ' bash "$work/installed/usr/share/bash-completion/completions/infini" "$1" | grep -x -- "$2" >/dev/null || fail "completion of '$1' does not offer $2"
}
completes "infini fo" footprint
completes "infini feed --max-t" --max-tokens
completes "infini feed --compute " bf16
