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

/// What was said so far.
#[derive(Default)]
struct Said {
    lines: Vec<Line>,
    /// Streams that may still bring more.
    open: usize,
}

#[derive(Default)]
struct Output {
    said: Mutex<Said>,
    changed: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.lock());
        self.changed.notify_all();
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
        output.lock().open = 2;
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
        self.output.lock().lines.clone()
    }

    /// The first line for which `pick` gives something, now or within `limit`. A process
    /// that has ended is not waited for.
    pub fn wait_for<T>(&self, limit: Duration, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut said = self.output.lock();
        let mut seen = 0;
        loop {
            if let Some(found) = said.lines[seen..].iter().find_map(|l| pick(&l.text)) {
                return Ok(found);
            }
            seen = said.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match (said.open, left.is_zero()) {
                (0, _) => "ended and never said what was waited for".to_owned(),
                (_, true) => format!("did not say what was waited for within {limit:?}"),
                _ => {
                    said = self
                        .output
                        .changed
                        .wait_timeout(said, left)
                        .unwrap_or_else(|poisoned| poisoned.into_inner())
                        .0;
                    continue;
                }
            };
            let lines: Vec<_> = said.lines.iter().map(|l| l.text.as_str()).collect();
            bail!("{} {why}; it said:\n{}", self.name, lines.join("\n"));
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
        let line = Line {
            at: start.elapsed(),
            text: String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        };
        output.change(|said| said.lines.push(line));
        bytes.clear();
    }
    output.change(|said| said.open -= 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Process> {
        Process::start("sh", Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_process_that_has_ended_is_not_waited_for() -> Result<()> {
        let start = Instant::now();
        let process = shell("echo last words >&2; exit 3")?;
        let error = process
            .wait_for(Duration::from_secs(60), |line| {
                (line == "ready").then_some(())
            })
            .expect_err("it never says that");
        assert!(
            error.to_string().contains("ended and never said"),
            "{error}"
        );
        assert!(error.to_string().ends_with("last words"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
        Ok(())
    }

    #[test]
    fn what_was_said_before_the_end_counts() -> Result<()> {
        let process = shell("echo; echo number 7")?;
        let number = process.wait_for(Duration::from_secs(60), |line| {
            line.strip_prefix("number ")?.parse::<u8>().ok()
        })?;
        assert_eq!(number, 7);
        Ok(())
    }

    #[test]
    fn silence_is_waited_for_no_longer_than_told() -> Result<()> {
        let process = shell("exec sleep 60")?;
        let error = process
            .wait_for(Duration::from_millis(50), |_| Some(()))
            .expect_err("it says nothing");
        assert!(error.to_string().contains("within 50ms"), "{error}");
        Ok(())
    }
}
