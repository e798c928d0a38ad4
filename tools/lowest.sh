#!/bin/sh
# Write constraints-lowest.txt: the oldest versions of direct dependencies that pyproject.toml promises, resolved for the oldest Python.
# torch stays at the tested build (constraints.txt), so it and the packages of its CUDA build are left out.
# usage: tools/lowest.sh .venv/bin
set -eu
bin=$1
torch=$(grep '^torch==' constraints.txt)
oldest=$(sed -n 's/^requires-python = ">=\(.*\)"/\1/p' pyproject.toml)
echo "$torch" >constraints-lowest.override
trap 'rm -f constraints-lowest.override constraints-lowest.new' EXIT
"$bin/uv" pip compile --quiet --no-header --no-annotate pyproject.toml --extra all \
    --extra baselines --extra cluster --extra evaluate --extra parquet --resolution lowest-direct --python-version "$oldest" \
    --override constraints-lowest.override --output-file constraints-lowest.new >/dev/null
{
    echo "# The oldest versions that pyproject.toml promises. Made by 'make lowest'; do not edit by hand. 'make compat' tests them."
    grep -v -E '^(#|torch==|triton==|cuda-|nvidia-)' constraints-lowest.new
} >constraints-lowest.txt
