//! The binary: parse, call.

fn main() {}
