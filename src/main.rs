//! The `sendoff` binary.

use std::process::ExitCode;

/// Suits memory that one thread allocates and another frees: requests move to the writer, payloads to the engine.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sendoff::cli::run(std::env::args_os())
}
