#!/usr/bin/env bash
# For which systems the jar and the NuGet package hold libraries; what those for Windows need; and C#'s ten lines on .NET for
# Windows, where NuGet gives it and Wine runs it: systems.sh windows=TREE arm64=TREE BUILD VERSION, where no TREE means none.
. "$(dirname "$0")/common.sh"
need python3
windows=${1#windows=} arm64=${2#arm64=}
shift 2
need_package java "$@"
need_package csharp "$@"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - "$1/packages/infini-$2.jar" "$1/packages/Infini.$2.nupkg" "$work" "$windows" "$arm64" <<'PY'
import hashlib, struct, sys, zipfile

def machine(data):
    if data[:2] == b"MZ":
        at, = struct.unpack_from("<I", data, 60)
        return data[at:at + 4], struct.unpack_from("<H", data, at + 4)[0]
    return data[:4], struct.unpack_from("<H", data, 18)[0]

jar, nupkg, work, windows, arm64 = sys.argv[1:]
jar, nupkg = zipfile.ZipFile(jar), zipfile.ZipFile(nupkg)
unix, dll = ("libinfini.so.0",) * 2 + ("libinfini_%s.so",), ("infini.dll", "infini_native.dll", "infini_%s.dll")
systems = [("linux-x86_64", "linux-x64", unix, (b"\x7fELF", 62))]
if windows:
    systems.append(("windows-x86_64", "win-x64", dll, (b"PE\0\0", 0x8664)))
if arm64:
    systems.append(("linux-aarch64", "linux-arm64", unix, (b"\x7fELF", 183)))
packed = {"native": [], "runtimes": []}
for system, rid, names, kind in systems:
    java, csharp, wrapper = names
    sums = jar.read(f"native/{system}/SHA256SUMS").decode().splitlines()
    assert len(sums) == 2, sums
    for line in sums:
        digest, name = line.split("  ")
        assert hashlib.sha256(jar.read(f"native/{system}/{name}")).hexdigest() == digest, name
    packed["native"] += [f"native/{system}/{name}" for name in ("SHA256SUMS", java, wrapper % "java")]
    packed["runtimes"] += [f"runtimes/{rid}/native/{name}" for name in (csharp, wrapper % "csharp")]
    assert java != csharp or jar.read(f"native/{system}/{java}") == nupkg.read(f"runtimes/{rid}/native/{csharp}")
for archive, folder in (jar, "native"), (nupkg, "runtimes"):
    held = sorted(name for name in archive.namelist() if name.startswith(folder + "/") and not name.endswith("/"))
    assert held == sorted(packed[folder]), held
    print("\n".join(f"{name}: {archive.getinfo(name).file_size} bytes" for name in held))
    for name in held:
        if name.endswith("SHA256SUMS"):
            continue
        data = archive.read(name)
        system, = (kind for first, second, _, kind in systems if f"/{first}/" in name or f"/{second}/" in name)
        assert machine(data) == system, (name, machine(data))
        if name.endswith(".dll"):
            open(f"{work}/{name.split('/')[-1]}", "wb").write(data)
PY
[ -n "$windows" ] || { echo "skipped: libraries for Windows in the packages, because INFINI_WINDOWS names no build of them"; exit 0; }
bash "$tests/../cross/windows_link.sh" "$source" "$work/infini.dll" "$work/infini_java.dll"
bash "$tests/../cross/windows_link.sh" "$source" "$work/infini_native.dll" "$work/infini_csharp.dll"

PATH=$PATH:/usr/lib/wine
need dotnet wine64
use_nuget "$1"
cd "$work"
python3 - "$source/bindings/csharp/README.md" <<'PY'
import re, sys
open('Program.cs', 'w').write(re.search(r'^```csharp\n(// Program.cs\n.*?)^```$', open(sys.argv[1], encoding='utf-8').read(), re.M | re.S)[1])
PY
packages=$(cd "$1/packages" && pwd)
printf '<configuration><packageSources><add key="infini" value="%s" /></packageSources></configuration>' "$packages" >nuget.config
mkdir hello
cd hello
dotnet new console --force --no-restore >/dev/null
cp ../Program.cs .
if ! { dotnet add package Infini --version "$2" && dotnet publish --nologo --verbosity quiet --runtime win-x64 --self-contained --output ../run; } >../log 2>&1; then
  if grep -qE 'NU1101|NU1102|NU1301' ../log; then echo "skipped: NuGet does not give .NET for Windows"; exit 0; fi
  cat ../log
  exit 1
fi
cd ../run
cp "$source/samples/models/stories260K.gguf" model.gguf
env LC_ALL=C.UTF-8 WINEPREFIX="$windows/wine" WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml= DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 \
  wine64 hello.exe >../said 2>&1 || true
if grep -q "System.Runtime.dll'. Module not found" ../said; then  # before a line of the program
  echo "skipped: this Wine ($(wine64 --version)) does not run .NET"
  exit 0
fi
cat ../said
grep -q "there was a little girl named Lily" ../said
