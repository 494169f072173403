#!/usr/bin/env bash
# Makes .venv in the checkout, or reuses it where it is up to date. The other scripts source this file.
# PYTHON chooses the interpreter (3.11 to 3.13); without it the first suitable one is taken.
# TMKT_SKIP_SETUP=1 uses the active environment as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# find_python 3.12: prints where an interpreter of this version is; on the PATH, or installed by pyenv but not active.
find_python() {
    local path
    for path in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if [ "$("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]; then
            command -v "$path"
            return
        fi
    done
    return 1
}

# choose_python: sets $python.
choose_python() {
    local supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' version
    if [ -n "${PYTHON:-}" ]; then
        python="$PYTHON"
        "$python" -c "$supported" 2>/dev/null && return
        echo "error: PYTHON=$python is not Python 3.11, 3.12 or 3.13: name another one, or leave PYTHON away." >&2
        exit 2
    fi
    python=python3
    "$python" -c "$supported" 2>/dev/null && return
    for version in 3.13 3.12 3.11; do
        python="$(find_python "$version")" && return
    done
    echo "error: found no Python 3.11, 3.12 or 3.13 (python3 is $(python3 --version 2>&1 || true)): install one, or name" \
        "it with PYTHON=/path/to/python bash ..." >&2
    exit 2
}

[ -n "${TMKT_SKIP_SETUP:-}" ] && return

# The stamp is written last: an interrupted installation is taken up again.
wanted="$(cat requirements.txt pyproject.toml | cksum) $(pwd)"
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    if [ ! -x .venv/bin/python ]; then
        choose_python
        "$python" -m venv .venv
    fi
    echo "Setting up .venv with $(.venv/bin/python --version) (several GB and some minutes the first time) ..."
    install=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
    # Several times faster; compiled now, as pip does, or Python would warn of BrainCog's escape sequences later.
    command -v uv > /dev/null && install=(uv pip install --quiet --compile-bytecode --python .venv/bin/python)
    "${install[@]}" --editable '.[dev]'
    echo "$wanted" > .venv/installed
fi
export PATH="$PWD/.venv/bin:$PATH"
