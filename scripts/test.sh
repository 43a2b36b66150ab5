#!/usr/bin/env bash
# All checks: ruff, mypy, pytest. Extra arguments go to pytest:
#
#   ./scripts/test.sh -k config
#
# Needs CPython 3.11 or newer with pip; installs what it needs into .venv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$project"

install_extras offline,dev
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
exec "$python" -m pytest "$@"
