//! A home with a worker that downloads its model while it loads.

use super::BINARY;
use super::home::Home;

/// Bytes that the index of weights names.
pub const TOTAL: u64 = 20_000_000;

/// A home whose model `far` is downloaded while it loads, in pieces of 100 kB, five a second; `keys` are
/// further ones of its entry.
pub fn home(keys: &str, pieces: u32, load_seconds: u32) -> Home {
    let home = Home::with_stub(&format!(
        "load_timeout: 3\nloading_notice: 1\nmodels:\n\
         - {{name: far, model_path: org/far, default: true, {keys}, worker_command: [downloads], \
            env: {{STUB_LOAD_SECONDS: '{load_seconds}'}}}}\n"
    ));
    let script = r#"
case "$*" in *--help*) exec 'BINARY' stub-worker "$@" ;; esac
cache="$HOME/.cache/huggingface/hub/models--org--far"
mkdir -p "$cache/blobs" "$cache/refs" "$cache/snapshots/abc"
printf abc > "$cache/refs/main"
printf '{"metadata": {"total_size": TOTAL}}' > "$cache/blobs/index"
ln -s ../../blobs/index "$cache/snapshots/abc/model.safetensors.index.json"
download() {
  i=0
  while [ $i -lt PIECES ]; do
    head -c 100000 /dev/zero >> "$cache/blobs/weights.incomplete"
    i=$((i + 1))
    sleep 0.2
  done
}
download &
exec 'BINARY' stub-worker "$@""#;
    let script = script.replace("BINARY", BINARY);
    let script = script.replace("TOTAL", &TOTAL.to_string());
    home.write_script("downloads", &script.replace("PIECES", &pieces.to_string()));
    home.start();
    home
}
