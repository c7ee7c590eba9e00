#!/bin/sh
# Makes an environment from its lock: infra/setup.sh core|dev (.venv) or tfx (.venv-tfx).
# Uses uv; where there is none, puts it into the environment alone.
set -eu
cd "$(dirname "$0")/.."
lock=$1
venv=.venv
[ "$lock" != tfx ] || venv=.venv-tfx
stamp=$venv/.merlb-$lock
wanted=$(cat "requirements/$lock.txt" requirements/uv.txt pyproject.toml | cksum)

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi

fits() {
  command -v "$1" >/dev/null 2>&1 && "$1" -c '
import sys, venv, ensurepip
sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1
}

python=
for candidate in ${MERLB_PYTHON:-python3.11 python3.12 python3 python}; do
  if fits "$candidate"; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  found=$( (${MERLB_PYTHON:-python3} --version || echo none) 2>/dev/null | head -n 1)
  echo "merlb needs Python 3.11 or 3.12 with venv, found ${found:-none}: apt-get install python3-venv, or set MERLB_PYTHON=/path/to/python3.11" >&2
  exit 1
fi

uv=$(command -v uv || true)
has_installer() {
  [ -n "$uv" ] || "$venv/bin/python" -m pip --version >/dev/null 2>&1
}
if [ ! -x "$venv/bin/python" ] || ! fits "$venv/bin/python" || ! has_installer; then
  echo "Making $venv with $($python --version)"
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi
if [ -z "$uv" ]; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
  uv=$venv/bin/uv
fi
echo "Installing requirements/$lock.txt"
"$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "requirements/$lock.txt"
if [ "$lock" != tfx ]; then
  "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
fi
echo "$wanted" > "$stamp"
