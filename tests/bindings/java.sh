#!/usr/bin/env bash
# The Java package's suite, with JUnit 5 and the JNI checks of the virtual machine: java.sh BUILD VERSION
. "$(dirname "$0")/common.sh"
need java javac python3
need_package java "$@"
junit=()
for jar in junit-jupiter-api junit-jupiter-engine junit-platform-commons junit-platform-engine junit-platform-launcher \
           junit-platform-console junit-platform-reporting opentest4j apiguardian-api picocli; do
  junit+=("/usr/share/java/$jar.jar")
  [ -e "${junit[-1]}" ] || { echo "skipped: no ${junit[-1]} (Debian package junit5)"; exit 77; }
done
export LC_ALL=C.UTF-8 # of which Java takes the encoding of paths
path=$(IFS=:; echo "$1/packages/infini-$2.jar:${junit[*]}")
classes=$(mktemp -d)
trap 'rm -rf "$classes"' EXIT
javac -proc:none -cp "$path" -d "$classes" "$tests"/java/*.java
chat_model "$classes/chat.gguf"
java -Xcheck:jni -Dsource="$source" -Dtraining="$1/training.txt" -Dchat="$classes/chat.gguf" -cp "$classes:$path" org.junit.platform.console.ConsoleLauncher \
  --scan-classpath "$classes" --details=tree --disable-banner --disable-ansi-colors | tee "$classes/log"
if grep -q 'WARNING in native' "$classes/log"; then exit 1; fi

# The loader's ways, and its words where none works. What is unpacked is gone when the program runs.
loads() { java "$@" -cp "$classes:$path" Loads >"$classes/log" 2>&1; }
refused() { if loads "$@"; then echo "$*: loaded all the same"; exit 1; fi; }
natives=$1/java/natives unpacked=$classes/unpacked
for way in infini.library.path java.library.path; do
  loads -D$way="$natives"
  grep -qx "$2" "$classes/log"
done
mkdir "$unpacked"
( umask 000; loads -Dinfini.unpack.folder="$unpacked" ) & # the folder made there is nobody else's all the same
modes=
while kill -0 $! 2>/dev/null; do modes+=$(stat -c %a "$unpacked"/infini* 2>/dev/null || true); done
wait $!
[[ $modes =~ ^(700)+$ ]] || { echo "the folder that was unpacked to had the modes '$modes'"; exit 1; }
grep -qx "$2" "$classes/log"
[ -z "$(ls -A "$unpacked")" ]
refused -Dinfini.library.path=/nowhere
grep "infini.library.path /nowhere: .*libinfini_java.so" "$classes/log"
refused -Dinfini.unpack.folder=/proc/nowhere
grep "java.library.path: " "$classes/log"
grep "this jar, unpacked to .*/proc/nowhere" "$classes/log"

# Where a folder cannot be written, another one serves: a home that is read-only beside a good temporary folder, and the
# other way round. Where a file-size limit or a full disk ends the unpacking, the reason is said and nothing is left.
loads -Duser.home=/proc/nowhere
XDG_RUNTIME_DIR='' XDG_CACHE_HOME=$classes/cache loads -Djava.io.tmpdir=/proc/nowhere
[ -z "$(ls -A "$classes/cache")" ]
( ulimit -f 100; refused -Dinfini.unpack.folder="$unpacked" )
grep "this jar, unpacked to $unpacked: .*File too large" "$classes/log"
[ -z "$(ls -A "$unpacked")" ]

# Processes that unpack at once into one folder do not meet.
pids=()
for i in 1 2 3 4; do java -Dinfini.unpack.folder="$unpacked" -cp "$classes:$path" Loads >"$classes/log$i" 2>&1 & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid"; done
for i in 1 2 3 4; do grep -qx "$2" "$classes/log$i"; done
[ -z "$(ls -A "$unpacked")" ]

# What a process left is swept by one that unpacks a day later; but not what is in use, for which a folder that cannot be deleted
# stands here, is younger, somebody else's, or not a folder of ours.
left() { mkdir -p "$unpacked/$1" && touch "$unpacked/$1"/libinfini{.so.0,_java.so} && touch -d "$2" "$unpacked/$1"; }
left infini-unpacked-1 '2 days ago'
left infini-unpacked-2 '1 hour ago'
left infini-work '2 days ago'
ln -s infini-work "$unpacked/infini-unpacked-3"
touch -h -d '2 days ago' "$unpacked/infini-unpacked-3"
mkdir -p "$unpacked/infini-unpacked-4/libinfini.so.0/used"
touch "$unpacked/infini-unpacked-4/libinfini_java.so"
touch -d '2 days ago' "$unpacked/infini-unpacked-4"
left infini-unpacked-5 '2 days ago'
chown 1 "$unpacked/infini-unpacked-5" 2>/dev/null || rm -rf "$unpacked/infini-unpacked-5"  # root alone may
loads -Dinfini.unpack.folder="$unpacked"
[ ! -e "$unpacked/infini-unpacked-1" ]
for kept in infini-unpacked-{2,3,4} infini-work $([ "$(id -u)" != 0 ] || echo infini-unpacked-5); do
  [ -e "$unpacked/$kept/libinfini.so.0" ] && [ -e "$unpacked/$kept/libinfini_java.so" ] || { echo "$kept was swept"; exit 1; }
done
rm -rf "$unpacked"/*

# Libraries of another processor, or damaged ones, in the way are passed by; a folder that the program names holds the right ones.
mkdir "$classes/wrong"
for file in libinfini.so.0 libinfini_java.so; do # the same, but for the processor that the header names: AArch64
  cp "$natives/$file" "$classes/wrong"
  printf '\xb7\x00' | dd of="$classes/wrong/$file" bs=1 seek=18 conv=notrunc status=none
done
LD_LIBRARY_PATH=$classes/wrong loads -Djava.library.path="$classes/wrong"
grep -qx "$2" "$classes/log"
refused -Dinfini.library.path="$classes/wrong"
grep "infini.library.path $classes/wrong: " "$classes/log"

# Whoever lacks a library hears which one.
mkdir "$classes/lacking"
for file in libinfini.so.0 libinfini_java.so; do sed 's/libm\.so\.6/libq.so.6/g' "$natives/$file" >"$classes/lacking/$file"; done
refused -Dinfini.library.path="$classes/lacking"
grep "The system has no libq.so.6: install it" "$classes/log"

# Where this shell may mount: temporary folders that are full, or that hold no programs.
if unshare --mount true 2>/dev/null; then
  mkdir "$classes/mounted"
  inside() { unshare --mount bash -euc "mount -t tmpfs -o $1 tmpfs '$classes/mounted'; shift; exec \"\$@\"" - "$@"; }
  run=(java -Djava.io.tmpdir="$classes/mounted" -cp "$classes:$path")
  for options in noexec size=64k; do
    XDG_RUNTIME_DIR='' XDG_CACHE_HOME=$classes/cache inside $options "${run[@]}" Loads >"$classes/log" 2>&1
    grep -qx "$2" "$classes/log"
    if inside $options "${run[@]}" -Dinfini.unpack.folder="$classes/mounted" Loads >"$classes/log" 2>&1; then exit 1; fi
    grep -E "may not hold programs \(noexec\)|No space left on device" "$classes/log"
  done
else
  echo "skipped: unpacking where no programs may lie, or where there is no room, because this shell may not mount"
fi
java --module-path "$1/packages/infini-$2.jar" --describe-module infini | grep -x "exports infini" >/dev/null
if command -v mvn >/dev/null; then mvn --offline --quiet --file "$1/packages/infini-$2.pom" validate; fi
