//! A man in the middle: between the SVSM and a proxy that works, reading and changing
//! what passes.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::hostile::send;

/// Whom a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The proxy.
    Proxy,
    /// The SVSM.
    Svsm,
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
    socket: PathBuf,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mitm {
    /// Listens on a socket in `dir` in front of the proxy at `upstream`. `meddle` sees
    /// every message: whom it goes to and its number in the connection, from 1 on.
    pub fn start(
        dir: &Path,
        upstream: &Path,
        mut meddle: impl FnMut(To, usize, &mut Value) -> Fate + Send + 'static,
    ) -> Result<Self> {
        let socket = dir.join("mitm.sock");
        // One of an earlier test step.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
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
            socket,
            over,
            thread: Some(thread),
        })
    }

    /// The socket for `launch_guest.sh --aproxy`.
    pub fn socket(&self) -> &Path {
        &self.socket
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

fn relay(
    mut svsm: UnixStream,
    upstream: &Path,
    meddle: &mut impl FnMut(To, usize, &mut Value) -> Fate,
) -> Result<()> {
    svsm.set_nonblocking(false)?;
    let mut proxy = UnixStream::connect(upstream)?;
    for message in (1..).step_by(2) {
        if pass(&mut svsm, &mut proxy, To::Proxy, message, meddle)? == Fate::Cut
            || pass(&mut proxy, &mut svsm, To::Svsm, message + 1, meddle)? == Fate::Cut
        {
            break;
        }
    }
    Ok(())
}

fn pass(
    from: &mut impl Read,
    onward: &mut impl Write,
    to: To,
    number: usize,
    meddle: &mut impl FnMut(To, usize, &mut Value) -> Fate,
) -> Result<Fate> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let mut body = vec![0; usize::try_from(u64::from_le_bytes(length))?];
    from.read_exact(&mut body)?;
    let mut message = serde_json::from_slice(&body)?;
    let fate = meddle(to, number, &mut message);
    if fate == Fate::Pass {
        send(onward, &serde_json::to_vec(&message)?)?;
    }
    Ok(fate)
}
