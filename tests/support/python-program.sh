#!/bin/sh
# Installs a Python program, as pip names it, into an environment in the folder named, which is there whole or not at all.
set -eu
folder=$1
rm -rf "$folder"
# Its programs have the path of the environment: it is made in its place.
python3 -m venv "$folder" && "$folder/bin/pip" install --quiet "$2" && exit 0
rm -rf "$folder"
exit 1
