//! Prints streams of commands that a TPM in reproducible surroundings
//! ([`environment::Fixed`]) answers in the same way each time: those of recorded clients, each
//! command that they do not use, and the largest keys.
//!
//! ```text
//! cargo run --release -p vtpm --example command_streams > FILE
//! ```
//!
//! A line is `new` (a fresh TPM), `cycle` (power off and on again), or a locality and a
//! command in hexadecimal.

mod client;
#[path = "../../tests/replay/environment.rs"]
mod environment;
mod keys;
#[path = "../../tests/replay/layout.rs"]
mod layout;
#[path = "../../tests/replay/names.rs"]
mod names;
mod objects;
mod policies;
mod rest;
#[path = "../../tests/replay/sessions.rs"]
mod sessions;
#[path = "../../tests/replay/stream.rs"]
mod stream;
#[path = "../../tests/replay/substitution.rs"]
mod substitution;

use std::io::{self, BufWriter, Write};

use client::Client;
use stream::{Event, Player};

const STREAMS: [&str; 9] = [
    "boot-b1", "boot-b3", "seal", "attest", "nvx", "sysd", "clevis", "ossl", "p11",
];

fn recorded(name: &str, out: &mut dyn Write) -> io::Result<()> {
    let path = format!(
        "{}/tests/vectors/streams/{name}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path)?;
    writeln!(out, "new")?;
    let mut result = Ok(());
    let mut print = |event: Event<'_>| {
        let printed = match event {
            Event::PowerCycle => writeln!(out, "cycle"),
            Event::Command(locality, bytes) => writeln!(out, "{locality} {}", hex::encode(bytes)),
        };
        if printed.is_err() {
            result = printed;
        }
    };
    let mut player = Player::new(&mut print);
    for (line, text) in text.lines().enumerate() {
        player.play(line + 1, &serde_json::from_str(text)?);
    }
    let differences = player.finish().differences;
    result?;
    if differences.is_empty() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{name}: {differences:?}")))
    }
}

fn main() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for name in STREAMS {
        recorded(name, &mut out)?;
    }
    keys::largest(&mut Client::new(&mut out)?)?;
    rest::without_objects(&mut Client::new(&mut out)?)?;
    objects::all(&mut Client::new(&mut out)?)?;
    policies::all(&mut Client::new(&mut out)?)?;
    out.flush()
}
