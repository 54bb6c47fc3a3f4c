#!/bin/sh
# notes.sh VERSION: what the changelog says of a version.
set -eu
awk -v heading="## [$1]" '
  index($0, heading) == 1 { inside = 1; next }
  /^## \[/ { inside = 0 }
  inside' CHANGELOG.md
