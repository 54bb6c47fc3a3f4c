#!/bin/sh
# finish.sh OUT: adds to the archives in OUT their checksums, the formula and the installer.
set -eu

cd "$(dirname "$0")/.."
repository="${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY"
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
packaging=$PWD/packaging
cd "$1"

sum() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

for archive in mlx-openai-server-hub-*.tar.gz; do
  sum "$archive" >"$archive.sha256"
done
sum mlx-openai-server-hub-*.tar.gz >SHA256SUMS

sed "s|@BASE_URL@|$repository/releases/latest/download|" "$packaging/install.sh" >install.sh
chmod 755 install.sh

sed -e "s|@REPOSITORY@|$repository|g" -e "s|@VERSION@|$version|g" "$packaging/formula.rb" >formula.new
for sums in mlx-openai-server-hub-*.sha256; do
  target=${sums#mlx-openai-server-hub-}
  target=${target%.tar.gz.sha256}
  sed "s|@SHA256 $target@|$(cut -d ' ' -f 1 "$sums")|" formula.new >formula.newer
  mv formula.newer formula.new
done
if grep -q '@' formula.new; then
  echo "error: a target of the formula has no archive here" >&2
  exit 1
fi
mv formula.new mlx-openai-server-hub.rb
