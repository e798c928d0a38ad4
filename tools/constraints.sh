#!/bin/sh
# Write constraints.txt from what is installed now. usage: tools/constraints.sh .venv/bin/python
set -eu
python=$1
{
    echo "# Exact versions of everything that 'make demo' and 'make test' install. Made by 'make constraints'; do not edit by hand."
    echo "# torch carries no +cpu or +cuXXX suffix: which build is installed is the choice of TORCH in the Makefile."
    "$python" -m pip list --format=freeze --exclude-editable |
        grep -v -i -E '^(pip|uv|nvidia-[^=]*|triton)==' | sed 's/^\(torch==[^+]*\)+.*/\1/' | LC_ALL=C sort -f
} >constraints.txt.new
mv constraints.txt.new constraints.txt
