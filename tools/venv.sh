#!/bin/sh
# Make the virtual environment .venv with a Python of 3.11 or later, and torch in the build that was asked for.
# usage: TORCH=cpu|cuda [TORCH_INDEX=URL] [PYTHON=...] tools/venv.sh
set -eu
here=$(dirname "$0")
venv=${VENV:-.venv}

modern() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

if [ ! -x "$venv/bin/python" ]; then
    python=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        if modern "$candidate"; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "No Python of 3.11 or later was found (looked for: ${PYTHON:-python3 python3.11 ... python3.14})." >&2
        echo "Install one, for example with 'apt-get install python3', or name it: make PYTHON=/path/to/python3.12 ..." >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        sh "$here/system.sh" "$version-venv" || sh "$here/system.sh" python3-venv
    fi
    echo "making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi

pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt"
version=$(sed -n 's/^torch==//p' constraints.txt)
case ${TORCH:-cpu} in
cpu)
    # the small CPU build: from wherever pip already looks, else from PyTorch's own index, else what PyPI has
    $pip "torch==$version+cpu" 2>/dev/null ||
        $pip --retries 1 --timeout 30 --extra-index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" \
            "torch==$version+cpu" 2>/dev/null ||
        $pip "torch==$version"
    ;;
cuda)
    # on Linux, PyPI's own torch is a CUDA build; TORCH_INDEX chooses another CUDA version
    if [ -n "${TORCH_INDEX:-}" ]; then
        $pip --force-reinstall --no-deps --index-url "$TORCH_INDEX" "torch==$version"
    elif "$venv/bin/python" -c 'import torch, sys; sys.exit(torch.version.cuda is None)' 2>/dev/null; then
        : # already a CUDA build
    else
        $pip --force-reinstall --no-deps --index-url https://pypi.org/simple "torch==$version"
    fi
    $pip "torch==$version"
    ;;
*)
    echo "TORCH=${TORCH} is not known; say TORCH=cpu (the default) or TORCH=cuda." >&2
    exit 1
    ;;
esac
