#!/usr/bin/env bash
# Makes .venv in the checkout, or reuses it where it is up to date. The other scripts source this file.
# PYTHON chooses the interpreter (3.11 or newer). TMKT_SKIP_SETUP=1 uses the active environment as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -n "${TMKT_SKIP_SETUP:-}" ] && return

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: '$python' is not Python 3.11 or newer: name one with PYTHON=/path/to/python bash $0" >&2
    exit 2
fi

# The stamp is written last: an interrupted installation is taken up again.
wanted="$(cat requirements.txt pyproject.toml | cksum) $(pwd)"
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    echo "Setting up .venv (several GB and some minutes the first time) ..."
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
    echo "$wanted" > .venv/installed
fi
export PATH="$PWD/.venv/bin:$PATH"
