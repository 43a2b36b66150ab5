#!/usr/bin/env bash
# A real Milvus server for tests and trials, from the milvus==2.3.5 wheel, in a venv of its own.
#
#   ./scripts/start-milvus.sh start FOLDER [PORT]   # prints the URI; data goes into FOLDER
#   ./scripts/start-milvus.sh stop FOLDER           # stops it by the pid in FOLDER/server.pid
#
# x86-64 Linux only. This release has no setting for the address that it listens on: it takes all
# interfaces, without a password. Run it only where nobody else reaches its ports.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

[ $# -ge 2 ] || usage
action=$1 folder=$2 port=${3:-19530}
milvus_venv="$project/.venv-milvus"

case "$action" in
start)
    if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
        echo "error: the milvus wheel holds a server for x86-64 Linux only, this is $(uname -sm)" >&2
        exit 1
    fi
    if [ ! -f "$milvus_venv/installed" ]; then
        "$(find_python)" -m venv "$milvus_venv"
        "$milvus_venv/bin/python" -m pip install --quiet --disable-pip-version-check milvus==2.3.5
        touch "$milvus_venv/installed"
    fi
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
    "$milvus_venv/bin/python" - "$folder" "$port" <<'PYTHON'
import socket
import sys
from pathlib import Path

from milvus import MilvusServer, MilvusServerConfig


class Config(MilvusServerConfig):
    """Takes a port whose last server was killed: connections of that one linger for a minute."""

    def try_bind_port(self, port):
        taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            taken.close()
            return None
        return taken


folder, port = Path(sys.argv[1]), int(sys.argv[2])
server = MilvusServer(Config(), proxy_port=port)
server.set_base_dir(str(folder))
server.start()
(folder / "server.pid").write_text(str(server.server_proc.pid))
print(f"http://127.0.0.1:{server.listen_port}", flush=True)
server.server_proc = None  # leave it running when this process ends
PYTHON
    ;;
stop)
    if [ -f "$folder/server.pid" ]; then
        pid=$(cat "$folder/server.pid")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
        rm -f "$folder/server.pid"
    fi
    ;;
*) usage ;;
esac
