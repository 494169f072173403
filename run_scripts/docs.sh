#!/usr/bin/env bash
# The documentation site, in docs/_build/html: bash run_scripts/docs.sh [options of sphinx-build]. A warning is an error.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
python -m sphinx -W --keep-going -n -q "$@" docs docs/_build/html
echo "docs/_build/html/index.html"
