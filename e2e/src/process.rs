//! A child process whose output is read line by line as it comes.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// One line of output and when it came, counted from the start of the process.
#[derive(Clone, Debug)]
pub struct Line {
    /// Time since the process was started.
    pub at: Duration,
    /// The text without its line end.
    pub text: String,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<Line>>,
    grown: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn push(&self, line: Line) {
        self.lock().push(line);
        self.grown.notify_all();
    }
}

/// A running child, leader of its own process group. Dropping it kills the group,
/// and so everything it started.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Process {
    /// Starts `command` without input; both output streams are collected.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let start = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        let output = Arc::new(Output::default());
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|s| Box::new(s) as _),
            child.stderr.take().map(|s| Box::new(s) as _),
        ];
        let readers = streams
            .into_iter()
            .flatten()
            .map(|stream| {
                let output = Arc::clone(&output);
                std::thread::spawn(move || collect(stream, &output, start))
            })
            .collect();
        Ok(Self {
            name: name.to_owned(),
            child,
            output,
            readers,
        })
    }

    /// Everything said so far.
    pub fn lines(&self) -> Vec<Line> {
        self.output.lock().clone()
    }

    /// The first line for which `pick` gives something, now or within `limit`.
    pub fn wait_for<T>(&self, limit: Duration, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut lines = self.output.lock();
        let mut seen = 0;
        loop {
            if let Some(found) = lines[seen..].iter().find_map(|l| pick(&l.text)) {
                return Ok(found);
            }
            seen = lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let said: Vec<_> = lines.iter().map(|l| l.text.as_str()).collect();
                bail!(
                    "{} did not say what was waited for within {limit:?}; it said:\n{}",
                    self.name,
                    said.join("\n")
                );
            }
            lines = self
                .output
                .grown
                .wait_timeout(lines, left)
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
    }

    /// Waits until it ends by itself, and for the last of its output.
    pub fn wait(mut self, limit: Duration) -> Result<(ExitStatus, Vec<Line>)> {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            // A reader only ends at the end of its stream; it has nothing to fail at.
            let _ = reader.join();
        }
        Ok((status, self.lines()))
    }

    /// Kills it and everything it started, and returns all that it said.
    pub fn kill(mut self) -> Result<Vec<Line>> {
        self.kill_group();
        self.child.wait()?;
        for reader in self.readers.drain(..) {
            // As in `wait`.
            let _ = reader.join();
        }
        Ok(self.lines())
    }

    fn kill_group(&self) {
        // The group may outlive its leader; one that is gone already is fine too.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read, output: &Output, start: Instant) {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::new();
    while matches!(stream.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
        output.push(Line {
            at: start.elapsed(),
            text: String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        });
        bytes.clear();
    }
}
