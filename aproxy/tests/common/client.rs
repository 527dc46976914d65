//! The attestation client of the kernel, through the proxy.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use svsm::attest::{AttestError, Attestation, Client, EvidenceSource, Timeouts, TrustPolicy};
use svsm::drivers::stream::ByteStream;
use svsm::entropy::{Entropy, EntropyError};
use svsm::exec::block_on;
use svsm::time::Clock;

use super::Proxy;

/// The line as the kernel has it: bytes, now or not.
pub struct Line(UnixStream);

impl ByteStream for Line {
    fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        self.0.read(buffer).unwrap_or(0)
    }

    fn write_some(&mut self, data: &[u8]) -> usize {
        self.0.write(data).unwrap_or(0)
    }
}

struct Watch(Instant);

impl Clock for Watch {
    fn now(&self) -> Duration {
        std::thread::yield_now();
        self.0.elapsed()
    }
}

/// A private key, right-aligned, or fresh ones.
struct Source(Option<Vec<u8>>);

impl Entropy for Source {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        match &self.0 {
            None => getrandom::fill(buffer).map_err(|_| EntropyError::Exhausted),
            Some(key) => {
                buffer.fill(0);
                let start = buffer.len() - key.len();
                buffer[start..].copy_from_slice(key);
                Ok(())
            }
        }
    }
}

/// Attests with `evidence`, and with `key` as the private key where one is given.
pub fn attest(
    proxy: &Proxy,
    evidence: &dyn EvidenceSource,
    key: Option<Vec<u8>>,
    policy: &TrustPolicy,
) -> Result<Attestation<'static, Line>, AttestError> {
    let stream = proxy.connect().stream;
    stream.set_nonblocking(true).unwrap();
    let client = Client {
        clock: Box::leak(Box::new(Watch(Instant::now()))),
        evidence,
        entropy: &Source(key),
        policy,
        timeouts: Timeouts::default(),
    };
    block_on(client.attest(Line(stream)))
}

/// Whoever signs.
pub fn anybody() -> TrustPolicy {
    TrustPolicy::trust_on_first_use()
}
