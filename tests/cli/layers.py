"""The rules of lib/: a layer includes itself and lower ones, and never the C interface; the files of base/platform.h know the
operating system, and one folder the processor; streams know the engine and nothing that it is made of; files are short, and no folder is
more than a quarter of all; the header lists the stages of tasks.

usage: layers.py SOURCE_DIR
"""
import pathlib
import re
import sys

# Lower ones first.
LAYERS = ["base", "kernels", "gemm", "format", "text", "memory", "attention", "model", "stream", "train", "adapt"]
LONG_FILE = 400  # lines
LARGE_FOLDER = 0.25  # of all lines
# Headers of systems and processors, and where alone each may be included.
ONLY_IN = {
    r"(sys(?!/auxv)|arpa|linux|net|netinet)/.*|(unistd|fcntl|sched|signal|pthread|dirent|dlfcn|poll|glob|pwd|termios|semaphore|windows|io)\.h":
        r"lib/base/platform_\w+\.cc",
    r"cpuid\.h|sys/auxv\.h|hwy/targets\.h": r"lib/kernels/cpu\.cc",
    r"\w*intrin\.h|arm_\w+\.h": r"lib/kernels/bf16_dot\.cc",
    r"hwy/.*": r"lib/kernels/.*",
}

# Names that compilers give systems and processors, and likewise.
NAMES_ONLY_IN = {
    r"\b(__APPLE__|__linux__|__unix__|_WIN32|_MSC_VER|__MINGW\w+)\b": r"lib/base/platform\w*\.cc|lib/kernels/cpu\.cc",
    r"\b(__x86_64__|__i386__|__aarch64__|__arm__|__(SSE|AVX|ARM)\w+)\b": r"lib/base/platform\.cc|lib/kernels/(cpu|bf16_dot)\.cc",
}

# model/engine.h is all that streams see of what computes them: not its folders, nor its weights and the layers of a state.
ENGINE = "model/engine.h"
BEHIND_ENGINE = ["kernels", "gemm", "memory", "attention", "model"]
REACHES_AROUND = r"\bweights\(\)|(?<!config)\.layers\b|->layers\b"

source = pathlib.Path(sys.argv[1])
files = sorted(path for path in (source / "lib").rglob("*") if path.suffix in (".h", ".cc"))
errors = [] if files else ["lib/ holds no source files"]
lines_in = dict.fromkeys(LAYERS, 0)

for path in files:
    lines = path.read_text(encoding="utf-8").splitlines()
    name = path.relative_to(source)
    layer = name.parts[1]
    if len(name.parts) != 3 or layer not in LAYERS:
        errors.append(f"{name}: lies in no layer ({', '.join(LAYERS)})")
        continue
    lines_in[layer] += len(lines)
    if len(lines) > LONG_FILE:
        errors.append(f"{name}: has {len(lines)} lines, more than {LONG_FILE}: split it along its data")
    for number, line in enumerate(lines, 1):
        if layer == "stream" and re.search(REACHES_AROUND, line.split("//")[0]):
            errors.append(f"{name}:{number}: reaches around {ENGINE}: {line.strip()}")
        for names, place in NAMES_ONLY_IN.items():
            if (found := re.search(names, line.split("//")[0])) and not re.fullmatch(place, str(name)):
                errors.append(f"{name}:{number}: asks for {found[0]}, which belongs in {place} alone")
        include = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if not include:
            continue
        target = include[2]
        folder = target.split("/")[0] if "/" in target else ""  # <memory> is none of ours
        if target == "kernels/cpu.h" and layer != "kernels" and str(name) != "lib/gemm/choose.cc":
            errors.append(f"{name}:{number}: includes {target}: what the processor decides belongs in lib/gemm/choose.cc")
        for headers, place in ONLY_IN.items():
            if include[1] == "<" and re.fullmatch(headers, target) and not re.fullmatch(place, str(name)):
                errors.append(f"{name}:{number}: includes <{target}>, which belongs in {place} alone")
        if folder in ("capi", "infini") or target.endswith(("infini.h", "infini_train.h")):
            errors.append(f"{name}:{number}: includes the C interface ({target})")
        elif folder in LAYERS and LAYERS.index(folder) > LAYERS.index(layer):
            errors.append(f"{name}:{number}: layer {layer} includes {target} of the higher layer {folder}")
        elif layer == "stream" and folder in BEHIND_ENGINE and target != ENGINE:
            errors.append(f"{name}:{number}: includes {target}, but streams know {ENGINE} alone")
        elif ".." in pathlib.PurePosixPath(target).parts:
            errors.append(f"{name}:{number}: includes {target} by a relative path")

for layer, count in lines_in.items():
    if count > LARGE_FOLDER * sum(lines_in.values()):
        errors.append(f"lib/{layer}: has {count} of {sum(lines_in.values())} lines, more than a quarter: move a part out")

# What a task can be told to do, and what the header says of it.
header = (source / "capi/infini.h").read_text(encoding="utf-8")
listed = re.search(r"What that call does, as text: (.*?)\*/", header, re.DOTALL)
named = set(re.findall(r'"([^"]+)"', listed[1])) if listed else set()
begun = {"idle"}
for path in [*files, *sorted((source / "capi").glob("*.cc"))]:
    begun |= set(re.findall(r'(?:\bbegin\(|\binitialise\(|\bwatch\([^",]*, |^ +task, )"([^"]+)"', path.read_text(encoding="utf-8"), re.M))
if named != begun:
    errors.append(f"capi/infini.h: infini_task_stage lists other stages than tasks begin: {', '.join(sorted(named ^ begun))}")

for error in errors:
    print(error, file=sys.stderr)
print(f"{len(files)} files, {len(errors)} errors")
sys.exit(bool(errors))
