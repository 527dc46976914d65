//! The audit log: what was asked, decided and changed, one JSON object a line.
//!
//! A line is written with a single call to a file opened for appending, so the server and
//! administrators' commands can share one. Nothing secret is ever part of a line: no secret, no key,
//! no cookie.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};
use x509_cert::der::DateTime;

/// Where audit lines go; nowhere by default.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Mutex<File>>>);

impl Audit {
    /// Appends to `path`, which is made readable for its owner only if it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }

    /// Writes one line: the time, the name of the event, and the members of the object `facts`.
    ///
    /// # Errors
    /// The line could not be written, so what it says should not happen.
    pub fn record(&self, event: &str, facts: Value) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let mut line = json!({"time": utc(SystemTime::now()), "event": event});
        if let (Value::Object(line), Value::Object(facts)) = (&mut line, facts) {
            line.extend(facts);
        }
        let line = format!("{line}\n");
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())
    }
}

/// Time in UTC, to the second (RFC 3339).
pub(crate) fn utc(time: SystemTime) -> String {
    DateTime::from_system_time(time).map_or_else(|_| "unknown".to_owned(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn each_event_is_one_line_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let (one, two) = (Audit::open(&path).unwrap(), Audit::open(&path).unwrap());
        one.record("a", json!({"text": "with\na line end"}))
            .unwrap();
        two.record("b", json!({"n": 1})).unwrap();
        one.record("c", json!({})).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let events: Vec<_> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["a", "b", "c"]);
        assert_eq!(lines[1]["n"], 1);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn time_is_utc() {
        let time = UNIX_EPOCH + Duration::from_secs(86_400);
        assert_eq!(utc(time), "1970-01-02T00:00:00Z");
    }
}
