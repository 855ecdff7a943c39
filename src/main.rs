//! The binary: parse, call.

use std::process::ExitCode;

/// Threads hand what they allocated to each other all the time here (requests to the writer, payloads to the engine).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sendoff::cli::run(std::env::args_os())
}
