#!/bin/sh
# Writes requirements/*.txt: dev holds everything, the others are parts of it with the same versions.
set -eu
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .venv/bin/uv)

compile() {
  target=$1
  shift
  "$uv" pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command 'make lock' \
    "$@" -o "requirements/$target.txt"
}

compile dev pyproject.toml --extra core --extra tensorflow --extra dev
compile core pyproject.toml -c requirements/dev.txt --extra core --extra tensorflow
compile cpu pyproject.toml -c requirements/dev.txt --extra core --extra tensorflow-cpu
compile gpu pyproject.toml -c requirements/dev.txt --extra core --extra tensorflow-gpu
compile serving pyproject.toml -c requirements/dev.txt --extra media --extra serve --extra tensorflow-cpu
compile uv requirements/uv.in
# TFX is resolved for the one platform that it has wheels for.
"$uv" pip compile --quiet --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
  --custom-compile-command 'make lock' requirements/tfx.in -o requirements/tfx.txt
