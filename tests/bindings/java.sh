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

# The loader's ways, and its words where none works.
loads() { java "$@" -cp "$classes:$path" Loads >"$classes/log" 2>&1; }
refused() { if loads "$1"; then echo "$1: loaded all the same"; exit 1; fi; }
for way in infini.unpack.folder infini.library.folder java.library.path; do # the first fills the folder
  loads -D$way="$classes/unpacked"
  grep -qx "$2" "$classes/log"
done
refused -Dinfini.library.folder=/nowhere
grep "infini.library.folder /nowhere: .*libinfini_java.so" "$classes/log"
refused -Dinfini.unpack.folder=/proc/nowhere
grep "java.library.path: " "$classes/log"
grep "this jar, unpacked to .*/proc/nowhere" "$classes/log"
java --module-path "$1/packages/infini-$2.jar" --describe-module infini | grep -qx "exports infini"
if command -v mvn >/dev/null; then mvn --offline --quiet --file "$1/packages/infini-$2.pom" validate; fi
