//! A man in the middle: between the SVSM and a proxy that works, reading, changing, holding
//! up and cutting off what passes.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tempfile::TempDir;

use crate::message::{receive, send};

/// A message that passes. Offer, evidence and reports go to the proxy, the others to the
/// SVSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The SVSM names its version.
    Offer,
    /// The challenge of the server.
    Challenge,
    /// Evidence and key of the SVSM.
    Evidence,
    /// The encrypted secret, or the refusal.
    Answer,
    /// The n-th report about the volume, from 1 on: the first is of its opening, the others
    /// are of commits.
    Report(usize),
    /// The answer to it.
    Acknowledgement(usize),
}

impl Step {
    /// What passes between one message of the SVSM and the next, as the `round`-th of its
    /// kind from 0 on: its message, and the answer.
    fn pair(round: usize) -> [Self; 2] {
        match round {
            0 => [Self::Offer, Self::Challenge],
            1 => [Self::Evidence, Self::Answer],
            n => [Self::Report(n - 1), Self::Acknowledgement(n - 1)],
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, changed or not.
    Pass,
    /// The line is cut in its place.
    Cut,
}

/// Listens in place of the proxy, one connection after the other.
pub struct Mitm {
    dir: TempDir,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mitm {
    /// Stands in front of the proxy that listens at `upstream`. `meddle` sees every message.
    pub fn start(
        upstream: &Path,
        mut meddle: impl FnMut(Step, &mut Value) -> Fate + Send + 'static,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let listener = UnixListener::bind(socket_in(&dir))?;
        listener.set_nonblocking(true)?;
        let over = Arc::new(AtomicBool::new(false));
        let (upstream, stop) = (upstream.to_owned(), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((svsm, _)) => {
                        // A connection ends when either side is gone.
                        let _ = relay(svsm, &upstream, &mut meddle);
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(_) => return,
                }
            }
        });
        Ok(Self {
            dir,
            over,
            thread: Some(thread),
        })
    }

    /// The same for somebody who changes messages and lets all of them pass.
    pub fn changing(
        upstream: &Path,
        mut change: impl FnMut(Step, &mut Value) + Send + 'static,
    ) -> Result<Self> {
        Self::start(upstream, move |step, message| {
            change(step, message);
            Fate::Pass
        })
    }

    /// The socket for `launch_guest.sh --aproxy`.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.dir)
    }
}

impl Drop for Mitm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It holds nothing that a panic in it could have spoilt.
            let _ = thread.join();
        }
    }
}

fn socket_in(dir: &TempDir) -> PathBuf {
    dir.path().join("mitm.sock")
}

fn relay(
    mut svsm: UnixStream,
    upstream: &Path,
    meddle: &mut impl FnMut(Step, &mut Value) -> Fate,
) -> Result<()> {
    svsm.set_nonblocking(false)?;
    let mut proxy = UnixStream::connect(upstream)?;
    for round in 0.. {
        let [asked, answered] = Step::pair(round);
        if pass(asked, &mut svsm, &mut proxy, meddle)? == Fate::Cut
            || pass(answered, &mut proxy, &mut svsm, meddle)? == Fate::Cut
        {
            break;
        }
    }
    Ok(())
}

fn pass(
    step: Step,
    from: &mut impl Read,
    onward: &mut impl Write,
    meddle: &mut impl FnMut(Step, &mut Value) -> Fate,
) -> Result<Fate> {
    let mut message = receive(from)?;
    let fate = meddle(step, &mut message);
    if fate == Fate::Pass {
        send(onward, message.to_string().as_bytes())?;
    }
    Ok(fate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_as_they_pass() {
        let steps: Vec<_> = (0..4).flat_map(Step::pair).collect();
        assert_eq!(
            steps,
            [
                Step::Offer,
                Step::Challenge,
                Step::Evidence,
                Step::Answer,
                Step::Report(1),
                Step::Acknowledgement(1),
                Step::Report(2),
                Step::Acknowledgement(2),
            ]
        );
    }
}
