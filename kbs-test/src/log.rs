//! Where the server's messages go: one line per event, to standard error unless a test listens.
//!
//! Text that came from a client is made harmless here, once, so that no caller can forget it.

use std::io::Write;
use std::sync::Arc;

/// Receives each message of the server, without a line end. A message about a measurement that does
/// not match has three lines, every other has one.
#[derive(Clone)]
pub struct Log(Arc<dyn Fn(&str) + Send + Sync>);

impl Log {
    /// Sends every message to `sink`.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Writes to standard error. A closed standard error does not stop the server.
    pub fn stderr() -> Self {
        Self::new(|text| {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        })
    }

    /// A one-line event with the program's name in front.
    pub(crate) fn event(&self, text: &str) {
        (self.0)(&format!("kbs-test: {}", printable(text)));
    }

    /// Text of several lines that has a documented form and contains nothing a client wrote.
    pub(crate) fn verbatim(&self, text: &str) {
        (self.0)(text);
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

/// Longest text of a client that appears in one message, in characters.
pub(crate) const MAX_TEXT: usize = 400;

fn printable(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn client_text_cannot_start_a_line_of_its_own() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let log = Log::new(move |l| sink.lock().unwrap().push(l.to_owned()));
        log.event("tee `x\nkbs-test: all is well\u{1b}[2J`");
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].contains('\n') && !lines[0].contains('\u{1b}'));
    }
}
