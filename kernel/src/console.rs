//! The log, on COM1.
//!
//! Every line begins with `[SVSM] `, warnings with `[SVSM] WARNING: `, errors with
//! `[SVSM] ERROR: `. A line goes out as a whole. A console that takes no bytes costs
//! one time-out and is silent from then on.

use crate::drivers::stream::ByteStream;
use crate::drivers::uart::{COM1, Uart};
use crate::platform::PortIo;
use core::fmt::{self, Write};
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::{Mutex, Once};

/// Looks at the transmitter after which a console is taken for dead. The clock may
/// not run yet, so looks are counted; each takes about a microsecond.
const PATIENCE: u32 = 2_000_000;

/// Longest line; what the host made longer is cut.
const MAX_LINE: usize = 1024;

struct Console {
    uart: Uart<'static>,
    dead: bool,
}

struct Logger(Mutex<Console>);

static LOGGER: Once<Logger> = Once::new();

/// Sends the log to COM1. Without such a port there is no log.
pub fn init(ports: &'static dyn PortIo) {
    let Some(uart) = Uart::open(ports, COM1) else {
        return;
    };
    let logger = LOGGER.call_once(|| Logger(Mutex::new(Console { uart, dead: false })));
    // Fails only when there is a logger already.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Lets a report through even when the line before was interrupted half-way.
///
/// For the way out only: whoever held the lock never runs again.
pub fn break_lock() {
    if let Some(logger) = LOGGER.get()
        && logger.0.is_locked()
    {
        log::set_max_level(LevelFilter::Off);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let prefix = match record.level() {
            Level::Error => "ERROR: ",
            Level::Warn => "WARNING: ",
            Level::Info | Level::Debug | Level::Trace => "",
        };
        let mut line = Line::new();
        // A line cannot fail to be formatted, only be cut.
        let _ = write!(line, "[SVSM] {prefix}{}", record.args());
        let mut console = self.0.lock();
        console.send(line.bytes());
        console.send(b"\r\n");
    }

    fn flush(&self) {}
}

impl Console {
    fn send(&mut self, mut bytes: &[u8]) {
        let mut patience = PATIENCE;
        while !bytes.is_empty() && !self.dead {
            match self.uart.write_some(bytes) {
                0 => {
                    patience -= 1;
                    self.dead = patience == 0;
                    core::hint::spin_loop();
                }
                count => bytes = &bytes[count..],
            }
        }
    }
}

/// One line of text: control characters replaced, cut at [`MAX_LINE`] bytes.
struct Line {
    bytes: [u8; MAX_LINE],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self {
            bytes: [0; MAX_LINE],
            length: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let Some(place) = self.bytes.get_mut(self.length) else {
                return Ok(());
            };
            *place = if byte.is_ascii_control() { b'?' } else { byte };
            self.length += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_cut_and_stays_one_line() {
        let mut line = Line::new();
        write!(line, "a\nb\x1b[31m").unwrap();
        assert_eq!(line.bytes(), b"a?b?[31m");
        for _ in 0..MAX_LINE {
            write!(line, "long").unwrap();
        }
        assert_eq!(line.bytes().len(), MAX_LINE);
    }
}
