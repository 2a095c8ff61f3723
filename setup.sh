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
# The stamps say what was installed from what, and where: an environment cannot be moved.
stamp=$(cat pyproject.toml constraints.txt | cksum)
installed=.venv/installed-${extras:-base}
test "$(cat .venv/made-in 2>/dev/null)" = "$PWD" || {
  rm -rf .venv
  "$python" -m venv .venv
  pwd > .venv/made-in
}
test "$(cat "$installed" 2>/dev/null)" = "$stamp" && exit 0
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
  -e ".${extras:+[$extras]}"
echo "$stamp" > "$installed"
