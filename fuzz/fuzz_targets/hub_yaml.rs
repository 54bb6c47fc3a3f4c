#![no_main]

use mlx_openai_server_hub::config::fuzz;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::hub_yaml(bytes));
