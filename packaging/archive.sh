#!/bin/sh
# archive.sh PROGRAM SHARE OUT: packs a program for $TARGET, with what belongs beside it.
set -eu

program=$1 share=$2 out=$3
name="mlx-openai-server-hub-$TARGET"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

mkdir -p "$folder/$name" "$out"
cp "$program" "$folder/$name/mlx-openai-server-hub"
chmod 755 "$folder/$name/mlx-openai-server-hub"
cp README.md LICENSE CHANGELOG.md "$folder/$name/"
cp -R "$share" "$folder/$name/share"
tar -czf "$out/$name.tar.gz" -C "$folder" "$name"
echo "packed $out/$name.tar.gz"
