//! A proxy made of a script: what it answers to each message, and how badly the line
//! behaves.

use libaproxy::frame;
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;
use svsm::attest::{
    AttestError, Attestation, Client, EvidenceSource, SampleEvidence, Timeouts, TrustPolicy,
};
use svsm::drivers::stream::ByteStream;
use svsm::entropy::{Entropy, EntropyError};
use svsm::exec::block_on;
use svsm::time::Clock;

/// Turns the JSON of a request into the bytes that come back.
pub type Answer<'a> = Box<dyn FnMut(&[u8]) -> Vec<u8> + 'a>;

/// The other end of the line.
pub struct Proxy<'a> {
    answers: VecDeque<Answer<'a>>,
    received: Vec<u8>,
    sending: VecDeque<u8>,
    chunk: usize,
    capacity: usize,
    pause: bool,
    /// JSON of the requests that came in whole.
    pub requests: Vec<Vec<u8>>,
}

impl<'a> Proxy<'a> {
    /// Answers the n-th request with the n-th of `answers`, and no further one.
    pub fn new(answers: impl IntoIterator<Item = Answer<'a>>) -> Self {
        Self {
            answers: answers.into_iter().collect(),
            received: Vec::new(),
            sending: VecDeque::new(),
            chunk: 16,
            capacity: usize::MAX,
            pause: false,
            requests: Vec::new(),
        }
    }

    /// Answers with these bytes.
    pub fn saying(answers: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self::new(answers.into_iter().map(|bytes| {
            let mut bytes = Some(bytes);
            Box::new(move |_: &[u8]| bytes.take().unwrap_or_default()) as Answer<'a>
        }))
    }

    /// Goes on with `answers`.
    pub fn add(&mut self, answers: impl IntoIterator<Item = Answer<'a>>) {
        self.answers.extend(answers);
    }

    /// At most `chunk` bytes pass at a time.
    pub fn in_chunks_of(mut self, chunk: usize) -> Self {
        self.chunk = chunk;
        self
    }

    /// Takes `capacity` bytes and then none.
    pub fn taking_only(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// These bytes are on the line before anything was asked.
    pub fn with_stale(mut self, bytes: &[u8]) -> Self {
        self.sending.extend(bytes);
        self
    }

    fn answer_whole_requests(&mut self) {
        while let Some((header, rest)) = self.received.split_first_chunk() {
            let length = frame::payload_len(*header).expect("the SVSM announced too much");
            if rest.len() < length {
                return;
            }
            let json = rest[..length].to_vec();
            self.received.drain(..header.len() + length);
            if let Some(mut answer) = self.answers.pop_front() {
                self.sending.extend(answer(&json));
            }
            self.requests.push(json);
        }
    }
}

impl ByteStream for Proxy<'_> {
    fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        self.pause = !self.pause;
        if self.pause && self.received.is_empty() && !self.requests.is_empty() {
            return 0;
        }
        let count = buffer.len().min(self.chunk).min(self.sending.len());
        for (slot, byte) in buffer.iter_mut().zip(self.sending.drain(..count)) {
            *slot = byte;
        }
        count
    }

    fn write_some(&mut self, data: &[u8]) -> usize {
        let count = data.len().min(self.chunk).min(self.capacity);
        self.capacity -= count;
        self.received.extend_from_slice(&data[..count]);
        self.answer_whole_requests();
        count
    }
}

/// A clock that moves on by a fixed step whenever somebody looks.
pub struct LookedAt {
    now: std::sync::atomic::AtomicU64,
}

impl LookedAt {
    const STEP_MILLIS: u64 = 10;

    pub fn new() -> Self {
        Self { now: 0.into() }
    }

    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now.load(std::sync::atomic::Ordering::Relaxed))
    }
}

impl Clock for LookedAt {
    fn now(&self) -> Duration {
        let ordering = std::sync::atomic::Ordering::Relaxed;
        Duration::from_millis(self.now.fetch_add(Self::STEP_MILLIS, ordering))
    }
}

/// Entropy that always gives the same bytes, right-aligned: the private key itself.
pub struct Fixed(pub Vec<u8>);

impl Entropy for Fixed {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        buffer.fill(0);
        let start = buffer.len() - self.0.len();
        buffer[start..].copy_from_slice(&self.0);
        Ok(())
    }
}

/// Some private key, for tests that do not care which.
pub fn some_key() -> Fixed {
    Fixed(vec![0x5a; 60])
}

thread_local! {
    static LAST_ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// How long, by its clock, the last attestation of this thread took.
pub fn last_elapsed() -> Duration {
    LAST_ELAPSED.get()
}

/// No line at all.
#[derive(Debug)]
pub struct NoLine;

impl ByteStream for NoLine {
    fn read_some(&mut self, _: &mut [u8]) -> usize {
        0
    }

    fn write_some(&mut self, _: &[u8]) -> usize {
        0
    }
}

/// What became of an attestation whose reporter nobody needs.
pub type Attested = Result<Attestation<'static, NoLine>, AttestError>;

/// Attests against `proxy` with sample evidence, and takes any server.
pub fn attest_with(proxy: &mut Proxy<'_>, entropy: &dyn Entropy) -> Attested {
    let policy = TrustPolicy::trust_on_first_use();
    attest_as(proxy, entropy, &SampleEvidence::default(), &policy)
}

/// Attests against `proxy`.
pub fn attest_as(
    proxy: &mut Proxy<'_>,
    entropy: &dyn Entropy,
    evidence: &dyn EvidenceSource,
    policy: &TrustPolicy,
) -> Attested {
    let done = attest_live(proxy, entropy, evidence, policy)?;
    Ok(Attestation {
        version: done.version,
        secret: done.secret,
        volume: done.volume,
        server: done.server,
        ledger: done.ledger,
        token: done.token,
        nonce: done.nonce,
        reporter: None,
        costs: done.costs,
    })
}

/// Attests over `line`, and keeps the reporter.
pub fn attest_live<S: ByteStream>(
    line: S,
    entropy: &dyn Entropy,
    evidence: &dyn EvidenceSource,
    policy: &TrustPolicy,
) -> Result<Attestation<'static, S>, AttestError> {
    // A reporter goes on using the clock for as long as it likes.
    let clock: &'static LookedAt = Box::leak(Box::new(LookedAt::new()));
    let client = Client {
        clock,
        evidence,
        entropy,
        policy,
        timeouts: Timeouts::default(),
    };
    let result = block_on(client.attest(line));
    LAST_ELAPSED.set(clock.elapsed());
    result
}
