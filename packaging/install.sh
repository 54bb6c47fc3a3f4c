#!/bin/sh
# Installs mlx-openai-server-hub into ~/.local/bin, from a release.
#
#   MLX_HUB_INSTALL_DIR   another folder for the program
#   MLX_HUB_BASE_URL      another place of the files, such as .../releases/download/v1.2.3
#
# It checks what it downloads, and tries it, before it changes anything.
set -eu

base_url=${MLX_HUB_BASE_URL:-@BASE_URL@}
bin=${MLX_HUB_INSTALL_DIR:-$HOME/.local/bin}
share=${XDG_DATA_HOME:-$HOME/.local/share}

fail() {
  printf 'error: %s\n' "$1" >&2
  if [ $# -gt 1 ]; then printf 'hint: %s\n' "$2" >&2; fi
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

target() {
  system=$(uname -s) machine=$(uname -m)
  case $machine in
    x86_64 | amd64) machine=x86_64 ;;
    arm64 | aarch64) machine=aarch64 ;;
    *) fail "there is no build for $machine" "build it from source with cargo" ;;
  esac
  case $system in
    Darwin)
      # A shell under Rosetta says x86_64 on Apple silicon.
      if [ "$(sysctl -n hw.optional.arm64 2>/dev/null || echo 0)" = 1 ]; then machine=aarch64; fi
      echo "$machine-apple-darwin"
      ;;
    Linux) echo "$machine-unknown-linux-gnu" ;;
    *) fail "there is no build for $system" "it runs on macOS and Linux" ;;
  esac
}

download() { # address, file
  if has curl; then
    curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"
  elif has wget; then
    wget --quiet --tries 3 --output-document "$2" "$1"
  else
    fail "neither curl nor wget is installed"
  fi || fail "$1 could not be downloaded"
}

digest() {
  if has sha256sum; then
    sha256sum "$1"
  elif has shasum; then
    shasum -a 256 "$1"
  else
    fail "neither sha256sum nor shasum is installed"
  fi | cut -d ' ' -f 1
}

main() {
  target=$(target)
  name="mlx-openai-server-hub-$target"
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT

  echo "downloading $base_url/$name.tar.gz"
  download "$base_url/$name.tar.gz" "$folder/$name.tar.gz"
  download "$base_url/$name.tar.gz.sha256" "$folder/sum"
  wanted=$(cut -d ' ' -f 1 "$folder/sum")
  got=$(digest "$folder/$name.tar.gz")
  if [ "$got" != "$wanted" ]; then
    fail "the download has the checksum $got, and not $wanted; nothing was changed" "try again later"
  fi
  tar -xzf "$folder/$name.tar.gz" -C "$folder"
  version=$("$folder/$name/mlx-openai-server-hub" --version) \
    || fail "the program does not run on this machine; nothing was changed" "build it from source with cargo"

  mkdir -p "$bin" "$share"
  # In one step, since it may be running.
  cp "$folder/$name/mlx-openai-server-hub" "$bin/.mlx-openai-server-hub.new"
  mv "$bin/.mlx-openai-server-hub.new" "$bin/mlx-openai-server-hub"
  cp -R "$folder/$name/share/." "$share/"
  echo "installed $version as $bin/mlx-openai-server-hub"
  case ":$PATH:" in
    *":$bin:"*) ;;
    *) echo "$bin is not on your PATH: add it in your shell's configuration" ;;
  esac
}

main
