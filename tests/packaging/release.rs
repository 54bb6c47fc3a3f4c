//! A release, made in a folder of its own by the workflow's own steps, with a stand-in for the program that
//! the build would have made.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::BINARY;
use crate::workflow::{script, targets};

/// Where the release is to be.
const REPOSITORY: &str = "ada/mlx-openai-server-hub";

/// A checkout in which a release is made.
pub(crate) struct Release {
    folder: TempDir,
}

pub(crate) fn write_program(path: &Path, script: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Release {
    fn checkout() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["Cargo.toml", "README.md", "LICENSE", "CHANGELOG.md"] {
            std::fs::copy(root.join(name), folder.path().join(name)).unwrap();
        }
        // Copied, since its scripts go by where they are.
        let packaging = folder.path().join("packaging");
        std::fs::create_dir(&packaging).unwrap();
        for entry in std::fs::read_dir(root.join("packaging")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), packaging.join(entry.file_name())).unwrap();
        }
        // `cargo run -- …` without the building.
        let cargo = format!(
            "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec '{BINARY}' \"$@\"\n"
        );
        write_program(&folder.path().join("bin/cargo"), &cargo);
        Self { folder }
    }

    /// With all the steps that can be run here.
    pub(crate) fn made() -> Self {
        let release = Self::checkout();
        release.run("share", "share", "").assert_ok();
        let data = release.path().join("mlx_openai_server_hub.data/data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::rename(release.path().join("share"), data.join("share")).unwrap();
        for target in targets() {
            let built = release.path().join("target").join(&target);
            let program = format!("#!/bin/sh\nexec '{BINARY}' \"$@\"\n");
            write_program(&built.join("dist/mlx-openai-server-hub"), &program);
            release.run("build", "archive", &target).assert_ok();
        }
        release.run("release", "finish", "").assert_ok();
        release
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of its files.
    pub(crate) fn dist(&self) -> PathBuf {
        self.path().join("dist")
    }

    fn run(&self, job: &str, step: &str, target: &str) -> Ran {
        self.run_tagged(job, step, target, "v0.0.0")
    }

    fn run_tagged(&self, job: &str, step: &str, target: &str, tag: &str) -> Ran {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("bash")
            .args(["-eo", "pipefail", "-c", &script(job, step)])
            .current_dir(self.path())
            .env(
                "PATH",
                format!("{}:{path}", self.path().join("bin").display()),
            )
            .env("TARGET", target)
            .env("GITHUB_SERVER_URL", "https://github.com")
            .env("GITHUB_REPOSITORY", REPOSITORY)
            .env("GITHUB_REF_NAME", tag)
            .output()
            .unwrap();
        Ran(output)
    }
}

/// A step that has ended.
struct Ran(Output);

impl Ran {
    #[track_caller]
    fn assert_ok(&self) {
        assert!(self.0.status.success(), "{:?}", self.0);
    }

    fn said(&self) -> String {
        let said = [&self.0.stdout[..], &self.0.stderr].concat();
        String::from_utf8(said).unwrap()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_archive_has_the_program_its_man_pages_and_its_completions() {
    let release = Release::made();
    let sums = read(&release.dist().join("SHA256SUMS"));
    for target in targets() {
        let name = format!("mlx-openai-server-hub-{target}");
        let archive = format!("{name}.tar.gz");
        let listed = Command::new("tar")
            .args(["-tzf", &archive])
            .current_dir(release.dist())
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        for file in [
            "mlx-openai-server-hub",
            "README.md",
            "LICENSE",
            "CHANGELOG.md",
            "share/man/man1/mlx-openai-server-hub.1",
            "share/bash-completion/completions/mlx-openai-server-hub",
            "share/zsh/site-functions/_mlx-openai-server-hub",
            "share/fish/vendor_completions.d/mlx-openai-server-hub.fish",
        ] {
            let file = format!("{name}/{file}");
            assert!(
                listed.lines().any(|line| line == file),
                "no {file} in {listed}"
            );
        }
        let sum = read(&release.dist().join(format!("{archive}.sha256")));
        assert!(
            sum.ends_with(&format!("  {archive}\n")) && sums.contains(&sum),
            "{sums}"
        );
        assert_eq!(sum.split(' ').next().unwrap().len(), 64, "{sum}");
    }
    let checked = Command::new("sh")
        .args([
            "-c",
            "sha256sum -c SHA256SUMS || shasum -a 256 -c SHA256SUMS",
        ])
        .current_dir(release.dist())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

/// What `cargo binstall` reads in Cargo.toml, filled in for a target.
fn binstall(key: &str, target: &str) -> String {
    let cargo = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    let (_, section) = cargo.split_once("[package.metadata.binstall]\n").unwrap();
    let line = section
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key} = ")));
    let mut text = line.unwrap().trim_matches('"').to_owned();
    let url = format!("https://github.com/{REPOSITORY}");
    for (name, value) in [
        ("repo", url.as_str()),
        ("version", env!("CARGO_PKG_VERSION")),
        ("name", env!("CARGO_PKG_NAME")),
        ("bin", "mlx-openai-server-hub"),
        ("target", target),
        ("binary-ext", ""),
    ] {
        text = text.replace(&format!("{{ {name} }}"), value);
    }
    assert!(!text.contains('{'), "{text}");
    text
}

#[test]
fn binstall_finds_each_archive_and_the_program_in_it() {
    let release = Release::made();
    let formula = read(&release.dist().join("mlx-openai-server-hub.rb"));
    for target in targets() {
        let url = binstall("pkg-url", &target);
        assert!(formula.contains(&format!("\"{url}\"")), "{url}\n{formula}");
        let (_, archive) = url.rsplit_once('/').unwrap();
        let program = binstall("bin-dir", &target);
        let listed = Command::new("tar")
            .args(["-tzf", archive, &program])
            .current_dir(release.dist())
            .output()
            .unwrap();
        assert!(listed.status.success(), "{listed:?}");
    }
    assert_eq!(binstall("pkg-fmt", ""), "tgz");
}

#[test]
#[expect(clippy::print_stdout, reason = "tests/run shows what was not run")]
fn the_formula_has_the_checksum_of_every_archive() {
    let release = Release::made();
    let formula = read(&release.dist().join("mlx-openai-server-hub.rb"));
    for target in targets() {
        let archive = format!("mlx-openai-server-hub-{target}.tar.gz");
        let sum = read(&release.dist().join(format!("{archive}.sha256")));
        let place = formula.find(&archive).unwrap();
        let rest = &formula[place..];
        let next = format!("sha256 \"{}\"", sum.split(' ').next().unwrap());
        assert_eq!(rest.lines().nth(1).unwrap().trim(), next, "{target}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let url = format!("https://github.com/{REPOSITORY}/releases/download/v{version}/");
    assert_eq!(formula.matches(&url).count(), targets().len(), "{formula}");
    assert!(!formula.contains('@'), "{formula}");
    assert_blocks_end(&formula);
    let ruby = Command::new("ruby")
        .args(["-c", "mlx-openai-server-hub.rb"])
        .current_dir(release.dist())
        .output();
    match ruby {
        Ok(checked) => assert!(checked.status.success(), "{checked:?}"),
        Err(_) => {
            println!("not run: ruby's check of the formula: ruby is not installed");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no ruby");
        }
    }
}

/// Each block of a formula ends at the column where it begins, and each text within its line.
#[track_caller]
fn assert_blocks_end(formula: &str) {
    let mut open = Vec::new();
    for line in formula.lines() {
        let code = line.trim_start();
        let column = line.len() - code.len();
        let is_comment = code.starts_with('#');
        if code.starts_with("class ")
            || code.starts_with("def ")
            || code.ends_with(" do") && !is_comment
        {
            open.push(column);
        } else if code == "end" {
            assert_eq!(open.pop(), Some(column), "{line}");
        }
        assert!(is_comment || line.matches('"').count() % 2 == 0, "{line}");
    }
    assert_eq!(open, [0; 0], "{formula}");
}

#[test]
fn a_formula_without_one_of_its_archives_is_no_release() {
    let release = Release::made();
    let lost = release
        .dist()
        .join("mlx-openai-server-hub-x86_64-apple-darwin.tar.gz");
    std::fs::remove_file(&lost).unwrap();
    std::fs::remove_file(lost.with_extension("gz.sha256")).unwrap();
    let refused = release.run("release", "finish", "");
    assert!(!refused.0.status.success());
    assert!(
        refused
            .said()
            .contains("a target of the formula has no archive here")
    );
}

#[test]
fn a_release_that_does_not_fit_together_is_stopped() {
    let release = Release::checkout();
    let checked = |tag: &str| release.run_tagged("check", "check", "", tag);
    let tag = format!("v{}", env!("CARGO_PKG_VERSION"));
    let edit = |file: &str, from: &str, to: &str| {
        let path = release.path().join(file);
        let text = read(&path);
        assert!(text.contains(from), "{file}: {from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    };
    let wrong = checked("v9.9.9");
    assert!(
        wrong.said().contains("error: the tag is v9.9.9"),
        "{}",
        wrong.said()
    );
    let wrong = checked(&tag);
    assert!(
        wrong.said().contains("error: CHANGELOG.md has no heading"),
        "{}",
        wrong.said()
    );
    let heading = format!("## [{}] - 2026-12-01", env!("CARGO_PKG_VERSION"));
    edit("CHANGELOG.md", "## [Unreleased]", &heading);
    edit(
        "Cargo.toml",
        "\n[lib]",
        "repository = \"https://github.com/eve/hub\"\n\n[lib]",
    );
    let wrong = checked(&tag);
    assert!(
        wrong
            .said()
            .contains("hint: set `repository = \"https://github.com/ada/"),
        "{}",
        wrong.said()
    );
    edit(
        "Cargo.toml",
        "github.com/eve/hub",
        &format!("github.com/{REPOSITORY}"),
    );
    checked(&tag).assert_ok();

    let notes = release.run_tagged("release", "notes", "", &tag);
    notes.assert_ok();
    let notes = read(&release.path().join("notes.md"));
    assert!(
        notes.contains("### Added, compared with Create-hub"),
        "{notes}"
    );
    assert!(!notes.contains("## ["), "{notes}");
}

#[test]
fn the_book_and_the_wheels_go_where_they_belong() {
    let release = Release::checkout();
    std::fs::create_dir(release.path().join("book")).unwrap();
    std::fs::create_dir(release.dist()).unwrap();
    std::fs::write(release.dist().join("a.whl"), "").unwrap();
    release.run("release", "book", "").assert_ok();
    assert!(release.dist().join("book.tar.gz").exists());
    release.run("pypi", "wheels", "").assert_ok();
    assert!(release.path().join("wheels/a.whl").exists());
}
