#!/usr/bin/env bash
# From nothing to an answer: installs into .venv, ingests docs/, asks a question about them.
#
#   ./scripts/demo.sh ["another question"]            # at the shell
#   ./scripts/demo.sh --serve ["another question"]    # in the browser, until Ctrl-C
#
# Needs CPython 3.11 or newer with pip; no GPU, no model hub. A second run takes seconds.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$project"

serves=false
if [ "${1:-}" = --serve ]; then
    serves=true
    shift
fi
question=${1:-What do the parameters for HNSW mean?}
export RAG_APP_PROFILE=offline RAG_APP_VECTOR_STORE__COLLECTION=demo

if $serves; then install_extras offline,server; else install_extras offline; fi
echo "\$ rag-app ingest docs/" >&2
"$venv/bin/rag-app" ingest docs/
echo >&2
if ! $serves; then
    echo "\$ rag-app query \"$question\"" >&2
    exec "$venv/bin/rag-app" query "$question"
fi

port=${RAG_APP_SERVER__PORT:-8080}
asked=$("$python" -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1]))' "$question")
page="http://127.0.0.1:$port/#/ask/?$asked"
# Where there is a screen; it waits for the server, which takes some seconds to load.
open_page() {
    for _ in $(seq 120); do
        "$python" -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/health')" \
            2>/dev/null && exec "$python" -m webbrowser "$page"
        sleep 0.5
    done
}
if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || [ "$(uname)" = Darwin ]; then open_page >/dev/null & fi
echo "the page, with the question ready to be sent: $page" >&2
echo "\$ rag-app serve" >&2
exec "$venv/bin/rag-app" serve --port "$port"
