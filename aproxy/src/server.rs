//! Many SVSMs at once: one thread per connection, bounded in number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::backend::Backend;
use crate::peer::{Peer, PeerLimits};
use crate::session;
use crate::transport::Transport;

/// How many connections are served at once; a further one is closed at once.
pub const MAX_CONNECTIONS: usize = 64;

/// Pause after a failed accept, which happens when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Receives the lines of the log, without line ends.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Accepts connections for ever and serves each.
pub fn run<T: Transport>(
    transport: &T,
    backend: Arc<dyn Backend>,
    limits: PeerLimits,
    log: Log,
) -> ! {
    let sessions = Arc::new(AtomicU64::new(0));
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match transport.accept() {
            Ok(stream) => stream,
            Err(e) => {
                log(&format!("cannot accept a connection: {e}"));
                thread::sleep(ACCEPT_PAUSE);
                continue;
            }
        };
        let Some(slot) = Slot::take(&connections) else {
            log(&format!(
                "connection closed: {MAX_CONNECTIONS} connections are open already"
            ));
            continue;
        };
        let (backend, sessions) = (Arc::clone(&backend), Arc::clone(&sessions));
        let thread_log = Arc::clone(&log);
        let serve = move || {
            let _slot = slot;
            // Numbers are given out in the order in which sessions have something to tell.
            let mut named = None;
            session::serve(Peer::new(stream, limits), &*backend, |session, event| {
                let number = match named {
                    Some((known, number)) if known == session => number,
                    _ => sessions.fetch_add(1, Ordering::Relaxed) + 1,
                };
                named = Some((session, number));
                thread_log(&format!("session {number}: {event}"));
            });
        };
        // Without a thread the connection is dropped, and with it closed.
        if let Err(e) = thread::Builder::new().spawn(serve) {
            log(&format!("connection closed: cannot start a thread: {e}"));
        }
    }
}

/// One of the [`MAX_CONNECTIONS`] places; free again when dropped, also by a panic.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(used: &Arc<AtomicUsize>) -> Option<Self> {
        // Only the accepting thread takes places, so the number cannot grow in between.
        if used.load(Ordering::Acquire) >= MAX_CONNECTIONS {
            return None;
        }
        used.fetch_add(1, Ordering::AcqRel);
        Some(Self(Arc::clone(used)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let used = Arc::new(AtomicUsize::new(0));
        let mut slots: Vec<_> = (0..MAX_CONNECTIONS).map(|_| Slot::take(&used)).collect();
        assert!(slots.iter().all(Option::is_some));
        assert!(Slot::take(&used).is_none());
        slots.pop();
        assert!(Slot::take(&used).is_some());
    }
}
