#!/usr/bin/env bash
# Builds the wheel of this machine with the development profile, installs it into a fresh environment
# with pip and tries it. Everything is below target/.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/maturin
if [[ ! -x $tools/bin/maturin ]]; then
  rm -rf "$tools" "$tools.new"
  python3 -m venv "$tools.new"
  "$tools.new/bin/pip" install --quiet 'maturin>=1.9,<2'
  # A virtual environment cannot be moved; its maturin is no script.
  mkdir -p "$tools/bin"
  cp "$tools.new/bin/maturin" "$tools/bin/"
  rm -rf "$tools.new"
fi

data=mlx_openai_server_hub.data
rm -rf target/wheels target/wheel-env "$data"
trap 'rm -rf "$data"' EXIT
cargo run --locked --quiet -- share "$data/data/share"
"$tools/bin/maturin" build --locked --quiet --profile dev --compatibility linux --out target/wheels

python3 -m venv target/wheel-env
target/wheel-env/bin/pip install --quiet --no-index target/wheels/*.whl
hub=target/wheel-env/bin/mlx-openai-server-hub
"$hub" --version
"$hub" demo --help >/dev/null
test -f target/wheel-env/share/man/man1/mlx-openai-server-hub.1
test -f target/wheel-env/share/bash-completion/completions/mlx-openai-server-hub

# The extra brings the worker along: a version for which pip refuses a Python that it cannot run on.
requirement=$(unzip -p target/wheels/*.whl '*/METADATA' | grep "^Requires-Dist: mlx-openai-server.*extra == .worker.$")
target/wheel-env/bin/python - "$requirement" <<'PYTHON'
import sys
from pip._vendor.packaging.requirements import Requirement

worker = Requirement(sys.argv[1].removeprefix("Requires-Dist: "))
assert "1.8.1" in worker.specifier and "1.3.12" not in worker.specifier, worker
PYTHON

# A worker beside it needs no PATH.
home=$(mktemp -d)
trap 'rm -rf "$data" "$home"' EXIT
printf 'models: [{name: a, model_path: org/a}]\n' >"$home/hub.yaml"
printf '#!/bin/sh\nexec %s stub-worker "$@"\n' "$PWD/$hub" >target/wheel-env/bin/mlx-openai-server
chmod 755 target/wheel-env/bin/mlx-openai-server
HOME=$home PATH=/usr/bin:/bin "$hub" --config "$home/hub.yaml" check --verbose | grep "$PWD/target/wheel-env/bin/mlx-openai-server launch"
