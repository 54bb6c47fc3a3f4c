//! Each file of `tests/inputs/bad_policy` is a policy with one fault; its snapshot is what the
//! status says about it after each hook was asked once.

use mlx_openai_server_hub::policy::LoadReason;

use crate::world::{Hub, pending, request};

#[test]
fn each_fault_is_told_with_file_and_line() {
    insta::glob!("../inputs/bad_policy", "*.lua", |path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let hub = Hub::new().file(name, std::fs::read(path).unwrap());
        let policies = hub.load();
        policies.on_request(request("alpha"));
        policies.on_load("beta", pending(LoadReason::Request, 1));
        policies.on_idle("alpha");
        let text = policies.warnings().join("\n");
        assert!(!text.is_empty(), "{name} has no fault");
        insta::with_settings!({
            filters => [("0x[0-9a-f]+", "[address]")],
            snapshot_path => "snapshots/bad_policy",
            prepend_module_to_snapshot => false,
        }, {
            insta::assert_snapshot!(text);
        });
    });
}
