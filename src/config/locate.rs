//! Finds the base folder, hub.yaml itself, and the paths that hub.yaml names.
//!
//! The command line asks [`locate`] for the hub.yaml to use; the readers ask the rest. [`is_same`] compares
//! two spellings of a path. Nothing here reads a file.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Names another hub.yaml; `--config` wins over it.
pub const CONFIG_VARIABLE: &str = "MLX_HUB_CONFIG_PATH";

/// `~/mlx-openai-server-hub`: the folder of the hub's files unless hub.yaml says otherwise.
pub fn base_folder() -> PathBuf {
    home().join("mlx-openai-server-hub")
}

/// `~/mlx-openai-server-hub/hub.yaml`.
pub fn default_path() -> PathBuf {
    base_folder().join("hub.yaml")
}

/// `~/mlx-openai-server-hub/logs`.
pub fn default_log_path() -> PathBuf {
    base_folder().join("logs")
}

/// The hub.yaml to use: that of `--config`, else that of the environment, else the default one.
/// Absolute; a leading `~` is the home folder.
pub fn locate(flag: Option<&Path>) -> PathBuf {
    choose(flag, std::env::var_os(CONFIG_VARIABLE))
}

fn choose(flag: Option<&Path>, variable: Option<OsString>) -> PathBuf {
    let chosen = flag
        .map(Path::to_owned)
        .or_else(|| {
            variable
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        })
        .unwrap_or_else(default_path);
    absolute(&expand_home(&chosen))
}

/// A path as written in hub.yaml, made absolute: `~` is the home folder, a relative path starts in
/// `folder`.
pub(crate) fn beside(written: &str, folder: &Path) -> PathBuf {
    absolute(&folder.join(expand_home(Path::new(written.trim()))))
}

/// [`beside`] for a text that can only be a path, or names something that exists; any other text is the id
/// of a repository and stays as written.
pub(super) fn path_or_id(written: &str, folder: &Path) -> String {
    let path = beside(written, folder);
    if written.trim_start().starts_with(['~', '/', '.']) || path.exists() {
        path.display().to_string()
    } else {
        written.to_owned()
    }
}

/// `path` from the working directory; without one (it was deleted) as it is.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The canonical spelling of a path: links are followed as far as the path exists, and the rest is taken as
/// written.
pub fn canonical(path: &Path) -> PathBuf {
    let path = absolute(path);
    if let Ok(canonical) = path.canonicalize() {
        return canonical;
    }
    let Some(folder) = path.parent().map(canonical) else {
        return path;
    };
    match path.components().next_back() {
        Some(Component::ParentDir) => folder.parent().map_or(folder.clone(), Path::to_owned),
        Some(last) => folder.join(last),
        None => folder,
    }
}

/// True if two paths are one, however they are written: by links, or in another case where the file system
/// does not tell it apart. A second hard link is another file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let (one, other) = (canonical(one), canonical(other));
    let in_another_case = || {
        let as_lower = |path: &Path| path.to_string_lossy().to_lowercase();
        as_lower(&one) == as_lower(&other) && node(&one).is_some() && node(&one) == node(&other)
    };
    one == other || in_another_case()
}

fn node(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// `~` and `~/…`; another user's home (`~name`) is not looked up.
fn expand_home(path: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) if rest.as_os_str().is_empty() => home(),
        Ok(rest) => home().join(rest),
        Err(_) => path.to_owned(),
    }
}

/// The user's home folder; `/` for a daemon that has none.
fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_environment_and_that_over_the_default() {
        let variable = || Some(OsString::from("/from/environment.yaml"));
        let flag = Path::new("/from/flag.yaml");
        assert_eq!(choose(Some(flag), variable()), flag);
        assert_eq!(
            choose(None, variable()),
            Path::new("/from/environment.yaml")
        );
        assert_eq!(choose(None, None), default_path());
        assert_eq!(choose(None, Some(OsString::new())), default_path());
    }

    #[test]
    fn a_tilde_is_the_home_folder_and_a_relative_flag_starts_in_the_working_directory() {
        let tilde = choose(Some(Path::new("~/a/hub.yaml")), None);
        assert_eq!(tilde, home().join("a/hub.yaml"));
        let relative = choose(Some(Path::new("hub.yaml")), None);
        assert!(relative.is_absolute() && relative.ends_with("hub.yaml"));
        assert_eq!(expand_home(Path::new("~other/x")), Path::new("~other/x"));
    }

    #[test]
    fn paths_in_hub_yaml_start_in_its_folder() {
        let folder = Path::new("/etc/hub");
        assert_eq!(beside("logs", folder), Path::new("/etc/hub/logs"));
        assert_eq!(beside("/var/log", folder), Path::new("/var/log"));
        assert_eq!(beside("~/logs", folder), home().join("logs"));
    }

    #[test]
    fn what_begins_like_a_path_is_one_whether_it_is_there_or_not() {
        let folder = Path::new("/etc/hub");
        let home = home();
        for (written, path) in [
            ("org/no-such-model", "org/no-such-model".to_owned()),
            ("no-such-model", "no-such-model".to_owned()),
            ("/no/such", "/no/such".to_owned()),
            ("./no/such", "/etc/hub/no/such".to_owned()),
            (".no/such", "/etc/hub/.no/such".to_owned()),
            ("~/no/such", home.join("no/such").display().to_string()),
            ("~", home.display().to_string()),
        ] {
            assert_eq!(path_or_id(written, folder), path);
        }
    }

    #[test]
    fn one_place_is_known_by_every_spelling_and_a_copy_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("home")).unwrap();
        std::fs::write(at("home/hub.yaml"), "").unwrap();
        std::os::unix::fs::symlink(at("home"), at("link")).unwrap();
        assert!(is_same(&at("home/hub.yaml"), &at("link/hub.yaml")));
        assert!(is_same(
            &at("home/hub.yaml"),
            &at("link/../home/./hub.yaml")
        ));
        assert!(is_same(&at("home/gone/logs"), &at("link/gone/logs")));
        assert!(is_same(&at("home/logs"), &at("link/gone/../logs")));
        assert!(is_same(&at("home/gone/.."), &at("link")));
        std::fs::hard_link(at("home/hub.yaml"), at("home/copy.yaml")).unwrap();
        assert!(!is_same(&at("home/hub.yaml"), &at("home/copy.yaml")));
        // Where the file system ignores case.
        let ignored = at("home/HUB.yaml").exists();
        assert_eq!(is_same(&at("home/hub.yaml"), &at("home/HUB.yaml")), ignored);
    }
}
