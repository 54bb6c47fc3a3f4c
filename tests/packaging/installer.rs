//! The installer of a release, with a server on this machine in place of GitHub.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::release::{Release, write_program};

/// Serves the files of a folder, until the test ends; gives its address.
fn served(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let name = first.split(' ').nth(1).unwrap().trim_start_matches('/');
            let (status, body) = match std::fs::read(folder.join(name)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            // The client may have gone.
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
    });
    address
}

/// A home that an installer finds.
struct Machine {
    home: tempfile::TempDir,
    release: Release,
    address: String,
}

impl Machine {
    fn new() -> Self {
        let release = Release::made();
        let address = served(&release.dist());
        let home = tempfile::tempdir().unwrap();
        Self {
            home,
            release,
            address,
        }
    }

    fn program(&self) -> PathBuf {
        self.home.path().join(".local/bin/mlx-openai-server-hub")
    }

    fn install(&self, shell: &str, path: &str) -> Output {
        let mut command = Command::new(shell);
        command
            .arg(self.release.dist().join("install.sh"))
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", path)
            .env("MLX_HUB_BASE_URL", &self.address);
        command.output().unwrap()
    }

    fn is_untouched(&self) -> bool {
        std::fs::read_dir(self.home.path())
            .unwrap()
            .next()
            .is_none()
    }
}

const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap()
}

#[test]
fn the_installer_puts_the_program_and_its_files_in_place() {
    let machine = Machine::new();
    for shell in ["sh", "dash", "bash"] {
        if Command::new(shell).args(["-c", ":"]).output().is_err() {
            continue;
        }
        let _ = std::fs::remove_dir_all(machine.home.path().join(".local"));
        let installed = machine.install(shell, PATH);
        assert!(installed.status.success(), "{shell}: {}", said(&installed));
        let version = Command::new(machine.program())
            .arg("--version")
            .output()
            .unwrap();
        let wanted = concat!("mlx-openai-server-hub ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(String::from_utf8(version.stdout).unwrap(), wanted);
        for file in [
            "man/man1/mlx-openai-server-hub.1",
            "bash-completion/completions/mlx-openai-server-hub",
        ] {
            let file = machine.home.path().join(".local/share").join(file);
            assert!(file.exists(), "{}", file.display());
        }
        assert!(
            said(&installed).contains("is not on your PATH"),
            "{}",
            said(&installed)
        );
    }
    // Over the one that is there, with its folder on PATH.
    let bin = machine.home.path().join(".local/bin");
    let again = machine.install("sh", &format!("{}:{PATH}", bin.display()));
    assert!(again.status.success(), "{}", said(&again));
    assert!(
        !said(&again).contains("is not on your PATH"),
        "{}",
        said(&again)
    );
    let left = std::fs::read_dir(&bin).unwrap().count();
    assert_eq!(left, 1, "something was left in {}", bin.display());
}

#[test]
fn a_download_that_was_changed_is_refused_and_nothing_is_installed() {
    let machine = Machine::new();
    for entry in std::fs::read_dir(machine.release.dist()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "gz") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.push(0);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let refused = machine.install("sh", PATH);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("error: the download has the checksum"),
        "{}",
        said(&refused)
    );
    assert!(machine.is_untouched());
}

#[test]
fn what_is_not_there_is_told_and_nothing_is_installed() {
    let machine = Machine::new();
    for entry in std::fs::read_dir(machine.release.dist()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "gz") {
            std::fs::remove_file(&path).unwrap();
        }
    }
    let refused = machine.install("sh", PATH);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("could not be downloaded"),
        "{}",
        said(&refused)
    );
    assert!(machine.is_untouched());
}

#[test]
fn a_machine_without_a_build_is_told_so() {
    let machine = Machine::new();
    let bin = machine.release.path().join("odd");
    write_program(
        &bin.join("uname"),
        "#!/bin/sh\nif [ \"$1\" = -m ]; then echo riscv64; else echo Linux; fi\n",
    );
    let refused = machine.install("sh", &format!("{}:{PATH}", bin.display()));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("error: there is no build for riscv64"),
        "{}",
        said(&refused)
    );
    assert!(machine.is_untouched());
}

#[test]
fn a_mac_gets_the_build_of_its_processor_even_under_rosetta() {
    let machine = Machine::new();
    let bin = machine.release.path().join("mac");
    write_program(
        &bin.join("uname"),
        "#!/bin/sh\nif [ \"$1\" = -m ]; then echo x86_64; else echo Darwin; fi\n",
    );
    write_program(&bin.join("sysctl"), "#!/bin/sh\necho 1\n");
    let path = format!("{}:{PATH}", bin.display());
    let installed = machine.install("sh", &path);
    assert!(
        said(&installed).contains("hub-aarch64-apple-darwin.tar.gz"),
        "{}",
        said(&installed)
    );
    write_program(&bin.join("sysctl"), "#!/bin/sh\nexit 1\n");
    let installed = machine.install("sh", &path);
    assert!(
        said(&installed).contains("hub-x86_64-apple-darwin.tar.gz"),
        "{}",
        said(&installed)
    );
}
