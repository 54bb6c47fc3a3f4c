#![no_main]

use mlx_openai_server_hub::upstream::fuzz;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::answer(bytes));
