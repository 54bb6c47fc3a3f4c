#!/bin/sh
# check.sh TAG: stops a release that does not fit together.
set -eu

fail() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

of_cargo() { sed -n "/^\[package\]/,/^\[/s/^$1 = \"\(.*\)\"/\1/p" Cargo.toml; }

tag=$1
version=$(of_cargo version)
repository=$(of_cargo repository)
here="${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY"

[ "$tag" = "v$version" ] \
  || fail "the tag is $tag, and Cargo.toml has version $version" "tag v$version, or change \`version\`"
grep -q "^## \[$version\]" CHANGELOG.md \
  || fail "CHANGELOG.md has no heading for $version" "begin it with \`## [$version] - DATE\`"
[ "$repository" = "$here" ] \
  || fail "Cargo.toml has repository \"$repository\", and the release will be at $here" \
    "set \`repository = \"$here\"\`: cargo binstall looks there"
echo "releasing $version at $here"
