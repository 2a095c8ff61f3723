#!/usr/bin/env bash
# Makes the project's own virtual environment .venv and installs into it, with the tested versions:
#   bash setup.sh           what training needs
#   bash setup.sh test      and what the tests need; any extras of pyproject.toml, apart by commas
# Quick when there is nothing to do. PYTHON names another interpreter than python3.
set -euo pipefail
cd "$(dirname "$0")"
extras=${1:-}
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: $("$python" --version) is too old (allowed: 3.11 or later; PYTHON=... names another)" >&2
  exit 2
}
# The stamp says what was installed from what; moving the folder makes it anew as well.
stamp=$(cat pyproject.toml constraints.txt | cksum; pwd)
installed=.venv/installed-${extras:-base}
test "$(cat "$installed" 2>/dev/null)" = "$stamp" && exit 0
test -x .venv/bin/python || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
  -e ".${extras:+[$extras]}"
echo "$stamp" > "$installed"
