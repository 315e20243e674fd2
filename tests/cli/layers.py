"""The include rules: a layer of lib/ includes itself and lower ones, and nothing there includes the C interface.

usage: layers.py SOURCE_DIR
"""
import pathlib
import re
import sys

# Lower ones first.
LAYERS = ["base", "kernels", "gemm", "format", "text", "memory", "attention", "model", "stream", "train", "cuda"]
LONG_FILE = 400

source = pathlib.Path(sys.argv[1])
files = sorted(path for path in (source / "lib").rglob("*") if path.suffix in (".h", ".cc"))
errors = [] if files else ["lib/ holds no source files"]

for path in files:
    lines = path.read_text(encoding="utf-8").splitlines()
    name = path.relative_to(source)
    layer = name.parts[1]
    if len(name.parts) != 3 or layer not in LAYERS:
        errors.append(f"{name}: lies in no layer ({', '.join(LAYERS)})")
        continue
    if len(lines) > LONG_FILE:
        print(f"warning: {name} has {len(lines)} lines, more than {LONG_FILE}")
    for number, line in enumerate(lines, 1):
        include = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if not include:
            continue
        target = include[2]
        folder = target.split("/")[0] if "/" in target else ""  # <memory> is none of ours
        if folder in ("capi", "infini") or target.endswith("infini.h"):
            errors.append(f"{name}:{number}: includes the C interface ({target})")
        elif folder in LAYERS and LAYERS.index(folder) > LAYERS.index(layer):
            errors.append(f"{name}:{number}: layer {layer} includes {target} of the higher layer {folder}")
        elif ".." in pathlib.PurePosixPath(target).parts:
            errors.append(f"{name}:{number}: includes {target} by a relative path")

for error in errors:
    print(error, file=sys.stderr)
print(f"{len(files)} files, {len(errors)} errors")
sys.exit(bool(errors))
