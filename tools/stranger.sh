#!/bin/sh
# A stranger's first study, from `pip install` of the built wheel in a clean environment, without the checkout, to the plot in the viewer.
# usage: tools/stranger.sh WHEEL [RECORD.json]
# RECORD: where the seconds of each step are written (docs/benchmarks/stranger.json; the pages quote it).
# NEWEST=1: with the newest versions of everything, as pip chooses them; by default with the versions of constraints.txt.
# Run by `make compat`; exit status 75 where packages cannot be fetched.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(realpath "$1")
record=${2:+$(realpath "$2")}
python=$here/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH PIP_CONSTRAINT PIP_BUILD_CONSTRAINT || true
[ "${NEWEST:-0}" = 1 ] || export PIP_CONSTRAINT="$here/constraints.txt"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PIP_DISABLE_PIP_VERSION_CHECK=1
torch=$("$python" -c 'import torch; print(torch.__version__)')

now() { "$python" -c 'import time; print(f"{time.time():.1f}")'; }
step() { # NAME: what was done since the last call, on the clock and on the processor (which other work on the machine does not change)
    end=$(now)
    times >"$work/times"
    spent=$(tail -1 "$work/times" | tr 'ms' '  ' | awk '{printf "%.1f", 60 * $1 + $2 + 60 * $3 + $4}')
    echo "$1 $(echo "$end $begun $spent $before" | awk '{printf "%.1f %.1f", $1 - $2, $3 - $4}')" >>"$work/steps"
    begun=$end
    before=$spent
}
fetch() { # PACKAGE...: pip install, and another exit status where nothing can be fetched
    "$work/env/bin/python" -m pip install --quiet "$@" 2>"$work/said" && return
    cat "$work/said" >&2
    ! grep -q -i -E 'NewConnectionError|timed out|Network is unreachable|No matching distribution|Could not fetch URL' "$work/said" || exit 75
    exit 1
}

cd "$work"
begun=$(now)
before=0
"$python" -m venv env
# the small CPU build, from wherever pip looks already, else from PyTorch's index
"$work/env/bin/python" -m pip install --quiet "torch==$torch" 2>/dev/null ||
    fetch "torch==$torch" --extra-index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}"
fetch "$wheel"
step "install without Qt"
"$work/env/bin/python" -c 'import importlib.util as u; assert not any(u.find_spec(n) for n in ("napari", "PySide6", "PyQt6"))'
"$work/env/bin/napari-medseq" demo --out "with space Ω" >/dev/null
find "with space Ω" -name lesions.csv | grep -q .
echo "without Qt: the main job from the installed wheel is done"
step "demo into files"
fetch "$wheel[all]"
step "install napari and Qt"
cp "$here/tools/stranger.py" .
xvfb-run -a -s "-screen 0 1400x1000x24" "$work/env/bin/python" stranger.py "with space Ω/study"
step "from starting napari to the plot, and every widget"
"$python" - "$work" "$record" <<'PYTHON'
import json, os, platform, sys
from pathlib import Path

work, record = Path(sys.argv[1]), sys.argv[2]
steps = [line.rsplit(" ", 2) for line in (work / "steps").read_text().splitlines()]
seconds = {name: float(clock) for name, clock, _ in steps} | json.loads((work / "walked.json").read_text())
processor = {name: float(spent) for name, _, spent in steps}
# the way of the tutorial: install, open the study, press Run; the demo into files and the other widgets are checks of ours
way = ("install without Qt", "install napari and Qt", "napari to plot")
seconds["pip install to plot"] = round(sum(seconds[name] for name in way), 1)
for name, took in seconds.items():
    print(f"{took:7.1f} s  {name}" + (f" ({processor[name]:.1f} s of a processor)" if name in processor else ""))
if record:
    machine = {"cores": os.cpu_count(), "system": platform.system(), "load": round(os.getloadavg()[1], 1)}
    found = {"seconds": seconds, "processor_seconds": processor, "machine": machine}
    Path(record).write_text(json.dumps(found, indent=1) + "\n")
PYTHON
