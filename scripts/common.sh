# Sourced by the other scripts: makes .venv beside the project and installs into it, once.
#
# A second run installs nothing unless pyproject.toml changed since the last one.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$project/.venv"
python="$venv/bin/python"

# find_python: print a CPython of at least 3.11, or say that there is none.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no CPython 3.11 or newer was found; install one, or name it: PYTHON=/path/to/python3" >&2
    return 1
}

# install_extras EXTRAS: make .venv and install the project with these extras, e.g. offline,dev.
install_extras() {
    local stamp="$venv/installed-$1" wanted
    wanted=$(cksum <"$project/pyproject.toml")
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    [ -x "$python" ] || "$(find_python)" -m venv "$venv"
    echo "installing rag_app[$1] into .venv: a few minutes the first time" >&2
    "$python" -m pip install --quiet --disable-pip-version-check -e "$project[$1]"
    echo "$wanted" >"$stamp"
}
