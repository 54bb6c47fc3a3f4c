#![no_main]

use mlx_openai_server_hub::hub::gateway::fuzz;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::query(bytes));
