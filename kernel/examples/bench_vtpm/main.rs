//! What the TPM takes: device requests of each command that writes, in the persistence of the
//! SVSM on a device in memory; stack and heap of the engine.
//!
//! ```text
//! bench-vtpm costs             device requests and bytes, by command
//! bench-vtpm boots STREAM...   the same of recorded boots (vtpm/tests/vectors/streams)
//! bench-vtpm memory STREAMS    stack and heap, for what vtpm's example command_streams printed
//! ```
//!
//! Each prints one flat JSON object.

mod boots;
mod client;
mod costs;
#[path = "../../../vtpm/tests/replay/environment.rs"]
mod environment;
mod machine;
mod memory;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/persistence/support.rs"]
mod support;

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut numbers = Vec::new();
    let mut report = |key: &str, value: u64| numbers.push(format!("  \"{key}\": {value}"));
    match arguments[..] {
        ["costs"] => costs::measure(&mut report),
        ["boots", ref streams @ ..] if !streams.is_empty() => boots::measure(streams, &mut report),
        ["memory", streams] => memory::measure(streams, &mut report),
        _ => {
            eprintln!("arguments: `costs`, `boots STREAM...` or `memory STREAMS`");
            std::process::exit(2);
        }
    }
    println!("{{\n{}\n}}", numbers.join(",\n"));
}
