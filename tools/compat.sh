#!/bin/sh
# What holds beyond the pinned environment: the oldest versions, the other Qt binding, and the wheel installed without the checkout.
# usage: tools/compat.sh [lowest] [qt] [wheel] [meta]     (all of them without arguments; run by `make compat` after `make test`)
# Environments are made by uv beside .venv, with the tested build of torch, and are kept for the next time.
set -eu
cd "$(dirname "$0")/.."
main=$(pwd)/.venv/bin
torch=torch==$(sed -n 's/^torch==//p' constraints.txt)+cpu
tools="pytest pytest-timeout pytest-xdist pytest-qt hypothesis"
screen="xvfb-run -a -s '-screen 0 1400x1000x24'"
export OMP_NUM_THREADS=1 MPLBACKEND=Agg PYTHONDONTWRITEBYTECODE=1
unset PIP_CONSTRAINT PIP_BUILD_CONSTRAINT || true

# environment NAME PACKAGE...: a virtual environment with torch as tested; further arguments go to uv
environment() {
    venv=$(pwd)/$1
    shift
    [ -x "$venv/bin/python" ] || "$main/uv" venv --quiet --python "$main/python" "$venv"
    found=$("$main/python" -c 'import torch; print(torch.__version__)')
    case $found in
    *+*) ;;
    *) torch=torch==$found ;;
    esac
    links=${PIP_FIND_LINKS:+--find-links $PIP_FIND_LINKS}
    # the CPU build: from wherever it is found, else from PyTorch's own index
    "$main/uv" pip install --quiet --python "$venv/bin/python" $links "$torch" "$@" 2>"$venv/said" ||
        "$main/uv" pip install --quiet --python "$venv/bin/python" $links --index-strategy unsafe-best-match \
            --extra-index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" "$torch" "$@" || {
        cat "$venv/said" >&2
        exit 1
    }
}

pins() { # the pinned versions of the tools of the tests
    for tool in $tools; do grep -i "^$tool==" constraints.txt; done
}

lowest() {
    echo "== the oldest versions that pyproject.toml promises, napari's among them"
    environment .venv-lowest -r constraints-lowest.txt $(pins)
    "$venv/bin/python" -c 'import napari, numpy, pandas; print("napari", napari.__version__, "numpy", numpy.__version__, "pandas", pandas.__version__)'
    PYTHONPATH=src "$venv/bin/python" -m pytest -q -p no:cacheprovider -n 2 tests/unit
}

qt() {
    echo "== PyQt6 instead of PySide6, for the tests alone (its licence is the GPL: it is no dependency), with the newest napari"
    grep -v -i -E '^(#|torch=|pyside6|shiboken6|itk|python-gdcm|uv=)' constraints.txt >.venv-pyqt6.txt
    environment .venv-pyqt6 -r .venv-pyqt6.txt PyQt6
    rm -f .venv-pyqt6.txt
    "$main/uv" pip install --quiet --python "$venv/bin/python" --upgrade --no-deps napari
    eval "QT_API=pyqt6 PYTHONPATH=src $screen $venv/bin/python -m pytest -q -p no:cacheprovider tests/napari/test_forms.py tests/napari/test_widgets.py"
}

wheel() {
    echo "== the wheel and the source archive, checked, and the wheel installed without the checkout"
    rm -rf dist
    "$main/python" -m build --installer uv --outdir dist . >/dev/null
    "$main/twine" check --strict dist/*
    "$main/check-wheel-contents" dist/*.whl
    ls -l dist | awk 'NR > 1 {printf "%s %.1f MB\n", $9, $5 / 1e6}'
    small=$(find dist -size +30000k)
    [ -z "$small" ] || { echo "larger than 30 MB: $small"; exit 1; }
    environment .venv-wheel -c constraints.txt "$(ls "$(pwd)"/dist/*.whl)"
    "$main/uv" pip install --quiet --python "$venv/bin/python" --reinstall --no-deps "$(ls "$(pwd)"/dist/*.whl)"
    work=$(mktemp -d)
    (
        cd "$work"
        "$venv/bin/python" -c 'import importlib.util as u; assert not any(u.find_spec(n) for n in ("napari", "PySide6", "PyQt6"))'
        "$venv/bin/napari-medseq" demo --out "with space Ω" >/dev/null
        find "with space Ω" -name lesions.csv | grep -q .
        echo "without Qt: the main job from the installed wheel is done"
    )
    environment .venv-wheel -c constraints.txt "$(ls "$(pwd)"/dist/*.whl)[all]"
    cp tools/open_widgets.py "$work/open_widgets.py"
    (cd "$work" && eval "$screen $venv/bin/python open_widgets.py")
    rm -rf "$work"
}

meta() {
    echo "== workflows, licences"
    "$main/zizmor" --offline --quiet .github
    "$main/python" tools/licences.py --check
}

for part in ${*:-meta wheel lowest qt}; do $part; done
