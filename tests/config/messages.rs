//! The exact texts of errors that no other test makes happen one by one: each says what failed, on
//! which thing, and what to do.

use std::fmt::Write as _;
use std::path::Path;

use insta::assert_snapshot;
use mlx_openai_server_hub::config::Config;
use mlx_openai_server_hub::config::ports::PortError;
use mlx_openai_server_hub::worker::command::{CommandError, Install};

/// All of them, each under its number.
fn list(errors: &[&dyn std::fmt::Display]) -> String {
    let mut list = String::new();
    for (i, error) in errors.iter().enumerate() {
        writeln!(list, "{}. {error}", i + 1).unwrap();
    }
    list
}

#[test]
fn every_port_that_cannot_be_had_is_told_with_its_model_and_a_way_out() {
    let (model, port) = ("alpha".to_owned(), 8101);
    let holder = "beta".to_owned();
    let texts = list(&[
        &PortError::InUse {
            model: model.clone(),
            port,
        },
        &PortError::Held {
            model: model.clone(),
            port,
            holder,
        },
        &PortError::HubPort {
            model: model.clone(),
            port,
        },
        &PortError::NoneFree {
            model,
            from: 47_850,
        },
    ]);
    assert_snapshot!(texts);
}

#[test]
fn every_worker_command_that_cannot_be_run_is_told_with_a_way_out() {
    let not_found = |install| CommandError::NotFound {
        program: "mlx-openai-server".to_owned(),
        install,
    };
    let not_executable = |install| CommandError::NotExecutable {
        path: "/opt/worker".into(),
        install,
    };
    let install = Some(Install {
        program: "mlx-openai-server".to_owned(),
        with:
            "`uv tool install --python 3.12 mlx-openai-server` or `pip install mlx-openai-server`"
                .to_owned(),
    });
    let texts = list(&[
        &CommandError::Empty,
        &not_found(install.clone()),
        &not_executable(install),
        &not_found(None),
        &not_executable(None),
    ]);
    assert_snapshot!(texts);
}

#[test]
fn a_file_that_is_no_hub_yaml_at_all_is_told_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let of = |path: &Path| {
        let text = Config::load(path).unwrap_err().to_string();
        text.replace(&folder.path().display().to_string(), "FOLDER")
    };
    let large = folder.path().join("large.yaml");
    std::fs::write(&large, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    let wrong = folder.path().join("wrong.yaml");
    let keys: String = (0..60).map(|n| format!("  wrong_{n}: 1\n")).collect();
    std::fs::write(
        &wrong,
        format!("models:\n- name: a\n  model_path: b\n{keys}"),
    )
    .unwrap();
    let wrong = of(&wrong);
    let texts = list(&[
        &of(folder.path()),
        &of(&large),
        &wrong.lines().last().unwrap(),
    ]);
    assert_snapshot!(texts);
}
