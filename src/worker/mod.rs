//! One worker: the program `mlx-openai-server launch`, its process group, its log, its HTTP port.
pub mod command;
pub mod upstream;
