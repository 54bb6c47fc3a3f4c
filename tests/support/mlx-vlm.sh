#!/bin/sh
# An environment with the real mlx_vlm.server, which takes MLX and more from that of the real worker: some seconds and
# 130 MB.   usage: mlx-vlm.sh FOLDER WORKER
# A plain `pip install mlx-vlm` brings OpenCV, datasets and more, which serving a language model does not need.
set -eu
folder=$1
rm -rf "$folder"
# Its programs have the path of the environment: it is made in its place.
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
packages() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
packages "$2" >"$(packages "$folder")/worker.pth"
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps \
  'mlx-vlm==0.7.10' 'mlx-audio==0.6.2' 'requests==2.34.2' 'urllib3==2.8.0' 'Pillow==13.0.0' \
  'cryptography==50.0.2' 'cffi==2.1.1' 'pycparser==3.12'
"$folder/bin/mlx_vlm.server" --help >/dev/null
trap - EXIT
