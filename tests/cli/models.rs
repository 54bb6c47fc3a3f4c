//! Models on the disk: `models` lists them.

use insta_cmd::assert_cmd_snapshot;
use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, model, status};
use crate::support::home::Home;
use crate::support::model_folder::{write, write_cached};

const GB: u64 = 1_000_000_000;

/// A home with a model in each place, of sizes that fit anywhere and nowhere.
pub(crate) fn home_with_models() -> Home {
    let home = Home::empty();
    let four = json!({"bits": 4, "group_size": 64});
    let qwen =
        json!({"model_type": "qwen3", "max_position_embeddings": 262_144, "quantization": four});
    write_cached(home.path(), "mlx-community/Qwen3-0.6B-4bit", &qwen, 1000);
    write_cached(home.path(), "org/huge", &qwen, 8_000 * GB);
    let bge = json!({"model_type": "bert", "max_position_embeddings": 512});
    write(&home.path().join(".lmstudio/models/org/bge"), &bge, 2000);
    write(
        &home.base().join("mine/tuned"),
        &json!({"model_type": "llama"}),
        3000,
    );
    home
}

const HUB_YAML: &str = "port: 8124\nmodel_folders: [mine]\nmodels:\n\
     - {name: small, model_path: mlx-community/Qwen3-0.6B-4bit}\n\
     - {name: again, model_path: mlx-community/Qwen3-0.6B-4bit}\n\
     - {name: tuned, model_path: ./mine/tuned}\n";

#[test]
fn models_lists_what_lies_in_every_place() {
    let home = home_with_models();
    home.write(HUB_YAML);
    let _filters = home.filters(8124);
    assert_cmd_snapshot!(home.command(["models"]));
}

#[test]
fn models_are_listed_for_programs() {
    let home = home_with_models();
    home.write(HUB_YAML);
    let listed: Value = serde_json::from_str(&home.run(&["models", "--json"]).out).unwrap();
    let small = &listed[0];
    let folder = home.path().join(".cache/huggingface/hub");
    assert!(
        small["folder"]
            .as_str()
            .unwrap()
            .starts_with(folder.to_str().unwrap())
    );
    assert!(small["bytes"].as_u64().unwrap() > small["weights"].as_u64().unwrap());
    for (key, value) in [
        ("model_path", json!("mlx-community/Qwen3-0.6B-4bit")),
        ("origin", json!("hugging-face")),
        ("model_type", json!("lm")),
        ("architecture", json!("qwen3")),
        ("quantisation", json!("4bit")),
        ("context_length", json!(262_144)),
        ("fits", json!("yes")),
        ("names", json!(["small", "again"])),
    ] {
        assert_eq!(small[key], value, "{key}");
    }
    let origins: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["origin"])
        .collect();
    assert_eq!(
        origins,
        ["hugging-face", "hugging-face", "lm-studio", "folder"]
    );
}

#[test]
fn models_needs_no_valid_hub_yaml() {
    let home = home_with_models();
    let without = home.run(&["models"]);
    without.assert_ok();
    assert!(
        without.out.contains("~/.lmstudio/models/org/bge"),
        "{without:?}"
    );
    assert!(!without.out.contains("tuned"), "{without:?}");
    home.write("models: [\n");
    let broken = home.run(&["models"]);
    broken.assert_ok();
    assert!(broken.lines()[0].starts_with("[warn] "), "{broken:?}");
    assert_eq!(&broken.lines()[1..], &without.lines());
}

#[test]
fn models_says_where_it_has_looked() {
    let home = Home::empty();
    home.write("model_folders: [mine]\nmodels: [{name: a, model_path: org/a}]\n");
    let _filters = home.filters(8124);
    assert_cmd_snapshot!(home.command(["models"]));
}

#[test]
fn beside_a_running_hub_a_model_fits_into_what_the_hub_has_left() {
    let hub = FakeHub::start(|request| {
        let mut answer = status(8124);
        let loaded = json!({"process_state": "running", "memory_state": "loaded"});
        let idle = json!({"process_state": "running"});
        answer["models"] = json!([
            model("small", &loaded),
            model("again", &idle),
            model("tuned", &idle)
        ]);
        answer["memory"] =
            json!({"total": 64 * GB, "available": GB / 10, "returning": 0, "pressure": "normal"});
        (request == "GET /hub/status").then_some((200, answer))
    });
    let home = home_with_models();
    home.write(&HUB_YAML.replace("8124", &hub.port().to_string()));
    hub.is_of(&home);
    let listed: Value = serde_json::from_str(&home.run(&["models", "--json"]).out).unwrap();
    let listed = listed.as_array().unwrap().iter();
    let fits: Vec<_> = listed
        .map(|model| (&model["model_path"], &model["fits"]))
        .collect();
    let of = |path: &str| {
        let found = fits
            .iter()
            .find(|(its, _)| its.as_str().unwrap().contains(path));
        found.unwrap_or_else(|| panic!("no {path}: {fits:?}")).1
    };
    assert_eq!(of("Qwen3-0.6B-4bit"), "loaded");
    assert_eq!(of("tuned"), "alone");
    assert_eq!(of("org/huge"), "no");
}
