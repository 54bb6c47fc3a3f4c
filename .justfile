# The recipes of this project; `just` alone lists them.
_default:
    @just --list

# everything that CI runs
check:
    ./tests/run

# the Rust tests alone
test *args:
    cargo test {{args}}

# a hub on simulated models, until Ctrl+C
demo:
    cargo run -- demo

# format the code
fmt:
    cargo fmt
