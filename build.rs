//! Collects `scripts/*.lua` into a table that `policy::bundled` includes and `scripts/engines/*.lua` into one for
//! `engine::bundled`, so that adding or removing a bundled policy or engine is adding or removing its file.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    println!("cargo:rerun-if-changed=scripts");
    let tables = [("bundled.rs", "scripts"), ("engines.rs", "scripts/engines")];
    for (name, folder) in tables {
        fs::write(out.join(name), table(&scripts(&root.join(folder))?))?;
    }
    Ok(())
}

/// The Lua files of `folder` by name.
fn scripts(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "lua"));
    paths.sort();
    Ok(paths)
}

/// A Rust expression: a slice of names and sources.
fn table(scripts: &[PathBuf]) -> String {
    let rows: String = scripts
        .iter()
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?;
            let path = path.to_str()?;
            Some(format!("    ({name:?}, include_str!({path:?})),\n"))
        })
        .collect();
    format!("&[\n{rows}]\n")
}
