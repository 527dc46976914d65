//! `guestlink call`: one call as it is.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use guestlink::client::{self, Region};

use crate::cli::{self, CallOptions};
use crate::svsm::Link;

/// Makes the call and prints what came of it.
pub fn call(link: &mut Link, options: &CallOptions) -> Result<()> {
    let mut bytes = match &options.buffer {
        Some(path) => cli::read(path)?,
        None => Vec::new(),
    };
    if let Some(size) = options.size {
        let size = usize::try_from(size).context("--size")?;
        anyhow::ensure!(
            size >= bytes.len() && size <= guestlink::MAX_REGION as usize,
            "--size: at least the size of the file, at most {}",
            guestlink::MAX_REGION
        );
        bytes.resize(size, 0);
    }
    let size = bytes.len() as u64;
    let default = |value| if size > 0 { value } else { 0 };
    let registers = [
        options.rcx.unwrap_or(default(options.base)),
        options.rdx.unwrap_or(default(size)),
        options.r8,
        options.r9,
    ];
    let mut region = Region {
        base: options.base,
        bytes,
    };
    let outcome = link.call(
        u32::try_from(options.protocol).context("protocol")?,
        u32::try_from(options.call).context("call")?,
        registers,
        &mut region,
    )?;
    println!(
        "result {:#x} ({})",
        outcome.result,
        client::result_name(outcome.result)
    );
    for (name, value) in ["rcx", "rdx", "r8", "r9"].iter().zip(outcome.registers) {
        println!("{name} {value:#x}");
    }
    match &options.output {
        Some(path) => cli::write(path, &region.bytes)?,
        None => print!("{}", dump(&region)),
    }
    Ok(())
}

/// The memory up to its last byte that is not zero, 16 bytes a line.
fn dump(region: &Region) -> String {
    let used = region.bytes.iter().rposition(|&byte| byte != 0);
    let bytes = &region.bytes[..used.map_or(0, |last| last + 1)];
    let mut text = String::new();
    for (line, bytes) in bytes.chunks(16).enumerate() {
        let _ = write!(text, "{:#010x} ", region.base + 16 * line as u64);
        for byte in bytes {
            let _ = write!(text, " {byte:02x}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shown_up_to_its_last_byte() {
        let mut bytes = vec![0; 40];
        bytes[17] = 0xab;
        let region = Region {
            base: 0x1000,
            bytes,
        };
        assert_eq!(
            dump(&region),
            "0x00001000  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n0x00001010  00 ab\n"
        );
        let region = Region {
            base: 0,
            bytes: vec![0; 40],
        };
        assert_eq!(dump(&region), "");
    }
}
