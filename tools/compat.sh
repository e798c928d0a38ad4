#!/bin/sh
# What holds beyond the pinned environment: the oldest versions, the other Qt binding, and the wheel installed without the checkout.
# usage: tools/compat.sh [meta] [wheel] [lowest] [qt]     (all of them without arguments; run by `make compat` after `make test`)
# Environments are made by uv beside .venv, with the tested build of torch, and are kept for the next time. Where the packages of one
# cannot be fetched (no network, or an index that does not have them), that part is SKIPPED by name with its reason, and is no failure;
# COMPAT_STRICT=1 makes it one. Whatever else goes wrong is a failure, and the other parts are looked at all the same.
set -eu
cd "$(dirname "$0")/.."
main=$(pwd)/.venv/bin
python=$main/python
skipped=75
tools="pytest pytest-timeout pytest-xdist pytest-qt hypothesis"
screen="xvfb-run -a -s '-screen 0 1400x1000x24'"
# tests that no version of another package changes: of the house, the pages, the package, memory and bounds of time; and those of ONNX
own="test_arrows.py test_house.py test_docs.py test_docs_quotes.py test_package.py inference/resources/test_memory.py inference/test_export.py
    models/test_bounds.py io/test_hostile_streams.py"
# the viewer's tests that build every widget and every form, and use them
windows="forms widgets narrow_docks nothing_outlives every_control compare_widget display_widget edit_widget preprocess_widget progression_widget"
pytest="-m pytest -q -p no:cacheprovider --no-header"
export OMP_NUM_THREADS=1 MPLBACKEND=Agg PYTHONDONTWRITEBYTECODE=1
unset PIP_CONSTRAINT PIP_BUILD_CONSTRAINT || true
# where pip looks besides PyPI, uv looks too
links=$("$python" -m pip config get global.find-links 2>/dev/null || true)
links="${PIP_FIND_LINKS:-$links}"

# what uv and build say where the fault lies with the network or the index
UNREACHABLE='error sending request|dns error|failed to fetch|could not connect|connection (refused|reset|error)|timed out|network is unreachable'
UNREACHABLE="$UNREACHABLE|no route to host|newconnectionerror|not found in the package registry|no versions? of|no matching distribution"

# install WHAT ARGUMENT...: uv pip install; ends this part where packages cannot be fetched
install() {
    what=$1
    shift
    "$main/uv" pip install --quiet --python "$venv/bin/python" ${links:+--find-links "$links"} "$@" 2>"$venv/said" && return
    cat "$venv/said" >&2
    grep -q -i -E "$UNREACHABLE" "$venv/said" || exit 1
    echo "the packages of $what cannot be fetched here" >"$why"
    exit $skipped
}

# environment NAME: a virtual environment with torch as tested
environment() {
    venv=$(pwd)/$1
    [ -x "$venv/bin/python" ] || "$main/uv" venv --quiet --python "$python" "$venv"
    torch=torch==$("$python" -c 'import torch; print(torch.__version__)')
    ! "$venv/bin/python" -c 'import torch' 2>/dev/null || return 0
    # the CPU build: from wherever it is found, else from PyTorch's own index
    "$main/uv" pip install --quiet --python "$venv/bin/python" ${links:+--find-links "$links"} "$torch" 2>/dev/null ||
        install "$1" --index-strategy unsafe-best-match --extra-index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" "$torch"
}

pins() { # the pinned versions of the tools of the tests
    for tool in $tools; do grep -i "^$tool==" constraints.txt; done
}

meta() { # workflows, licences, and what the version is made from
    "$main/zizmor" --offline --quiet .github
    "$python" tools/licences.py --check
    copy=$said.version
    mkdir "$copy"
    cp pyproject.toml "$copy"
    version "$(sed -n 's/^fallback_version = "\(.*\)"/\1/p' pyproject.toml)" "without a repository"
    git -C "$copy" init --quiet
    git -C "$copy" add pyproject.toml
    git -C "$copy" -c user.name=x -c user.email=x@example.org commit --quiet -m x
    git -C "$copy" tag v9.8.7
    version 9.8.7 "from the tag v9.8.7"
}

version() { # WANTED HOW: the version of the project in $copy
    made=$(cd "$copy" && "$python" -m setuptools_scm)
    [ "$made" = "$1" ] || { echo "the version $2 is '$made', not '$1'"; exit 1; }
    echo "version $2: $made"
}

wheel() { # the wheel and the source archive, checked; the wheel installed without the checkout, and a stranger's first study with it
    rm -rf dist
    "$python" -m build --installer uv --outdir dist . >"$said" 2>&1 || {
        tail -20 "$said" >&2
        grep -q -i -E "$UNREACHABLE" "$said" || exit 1
        echo "what builds the wheel cannot be fetched here" >"$why"
        exit $skipped
    }
    "$python" -m twine check --strict dist/*
    "$python" -m check_wheel_contents dist/*.whl
    ls -l dist | awk 'NR > 1 {printf "%s %.1f MB\n", $9, $5 / 1e6}'
    small=$(find dist -size +30000k)
    [ -z "$small" ] || { echo "larger than 30 MB: $small"; exit 1; }
    sh tools/stranger.sh "$(ls "$(pwd)"/dist/*.whl)"
}

lowest() { # the oldest versions that pyproject.toml promises, napari's among them: tests of what calls other libraries
    environment .venv-lowest
    install "the oldest versions" "$torch" -r constraints-lowest.txt $(pins)
    "$venv/bin/python" -c 'import napari, numpy, pandas; print("napari", napari.__version__, "numpy", numpy.__version__, "pandas", pandas.__version__)'
    # old libraries and their newer helpers warn of each other: no warning is an error here
    PYTHONPATH=src "$venv/bin/python" $pytest -o filterwarnings= -n "${JOBS:-2}" --dist loadfile --durations=8 tests/unit $(printf ' --ignore=tests/unit/%s' $own)
}

qt() { # PyQt6 instead of PySide6, for the tests alone (its licence is the GPL: it is no dependency), with the newest napari
    environment .venv-pyqt6
    grep -v -i -E '^(#|torch=|pyside6|shiboken6|itk|python-gdcm|uv=)' constraints.txt >"$venv/wanted.txt"
    install "PyQt6" "$torch" -r "$venv/wanted.txt" PyQt6
    install "the newest napari" --upgrade --no-deps napari
    "$venv/bin/python" -c 'import napari, PyQt6.QtCore as q; print("napari", napari.__version__, "PyQt6", q.PYQT_VERSION_STR)'
    eval "QT_API=pyqt6 PYTEST_QT_API=pyqt6 PYTHONPATH=src $screen $venv/bin/python $pytest -n ${JOBS:-2} --dist loadfile $(printf ' tests/napari/test_%s.py' $windows)"
}

if [ "${1:-}" = --part ]; then
    why=$3
    said=$3.said
    "$2"
    exit
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
bad=""
left=""
for part in ${*:-meta wheel lowest qt}; do
    echo "== compat: $part"
    begun=$(date +%s)
    status=0
    sh "$0" --part "$part" "$scratch/$part" || status=$?
    took="$(($(date +%s) - begun)) s"
    case $status in
    0) echo "== compat: $part is green ($took)" ;;
    "$skipped")
        left="$left $part"
        echo "== compat: $part was SKIPPED: $(cat "$scratch/$part") ($took)"
        ;;
    *)
        bad="$bad $part"
        echo "== compat: $part FAILED ($took)"
        ;;
    esac
done
[ -z "$left" ] || echo "== compat: SKIPPED, so nothing is known of:$left"
[ -z "$bad" ] || { echo "== compat: FAILED:$bad"; exit 1; }
[ -z "$left" ] || [ "${COMPAT_STRICT:-0}" = 0 ]
