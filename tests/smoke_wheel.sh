#!/usr/bin/env bash
# Build the wheel, install it into a clean environment, and train with it from an empty folder.
# The environment sees the heavy libraries of the development one, but not the development install of Peregrine.
set -euo pipefail
python=${1:?usage: smoke_wheel.sh PYTHON}
root=$(cd "$(dirname "$0")/.." && pwd)
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --wheel --no-isolation --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --no-deps "$work"/dist/*.whl
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
clean=$("$work/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$site" >"$clean/zz_libraries.pth" # a plain path: the .pth files inside it, the editable install's too, do not run
cd "$work"
where=$("$work/env/bin/python" -c 'import peregrine; print(peregrine.__file__)')
case $where in "$clean"/*) ;; *) echo "the wheel is not what is imported: $where"; exit 1 ;; esac
"$work/env/bin/peregrine" recipes >/dev/null
"$work/env/bin/peregrine" run --data digits --set epochs=2 --run smoke --json >out.txt
tail -n 1 out.txt | "$python" -c 'import json, sys; r = json.load(sys.stdin); assert r["evaluation"]["accuracy"] > 0.5, r'
test -s smoke/report.html
echo "the wheel works: $(basename "$work"/dist/*.whl)"
