//! What the proxy sends to the attestation client: any bytes, in any pieces, in either
//! version of the protocol. The client must come to an end, and never to a secret.

#![no_main]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use svsm::attest::{Client, SampleEvidence, Timeouts, TrustPolicy};
use svsm::drivers::stream::ByteStream;
use svsm::entropy::{Entropy, EntropyError};
use svsm::exec::block_on;
use svsm::time::Clock;

/// A clock that goes on by itself, so that every wait ends.
struct Clockwork(AtomicU64);

impl Clock for Clockwork {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(100, Ordering::Relaxed))
    }
}

/// The same bytes each time, so that a finding can be repeated.
struct Counting;

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        for (n, byte) in buffer.iter_mut().enumerate() {
            *byte = n as u8 | 1;
        }
        Ok(())
    }
}

/// Answers with its messages, the next one when something was asked.
struct Proxy<'a> {
    messages: Vec<&'a [u8]>,
    framed: bool,
    waiting: Vec<u8>,
    asked: bool,
}

impl ByteStream for Proxy<'_> {
    fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        if self.asked && self.waiting.is_empty() && !self.messages.is_empty() {
            self.asked = false;
            let message = self.messages.remove(0);
            if self.framed {
                self.waiting.extend((message.len() as u64).to_le_bytes());
            }
            self.waiting.extend(message);
        }
        let count = buffer.len().min(self.waiting.len());
        buffer[..count].copy_from_slice(&self.waiting[..count]);
        self.waiting.drain(..count);
        count
    }

    fn write_some(&mut self, data: &[u8]) -> usize {
        self.asked = true;
        data.len()
    }
}

fuzz_target!(|input: &[u8]| {
    // The first byte: whether the messages get right lengths. Then messages with a
    // zero byte between them; a zero byte is in no JSON.
    let Some((&kind, rest)) = input.split_first() else {
        return;
    };
    let mut proxy = Proxy {
        messages: rest.splitn(3, |&byte| byte == 0).collect(),
        framed: kind & 1 == 0,
        waiting: Vec::new(),
        asked: false,
    };
    let clock = Clockwork(AtomicU64::new(0));
    let evidence = SampleEvidence { measurement: None };
    let client = Client {
        clock: &clock,
        evidence: &evidence,
        entropy: &Counting,
        policy: &TrustPolicy::trust_on_first_use(),
        timeouts: Timeouts::default(),
    };
    let outcome = block_on(client.attest(&mut proxy));
    if let Err(error) = outcome {
        let words = error.to_string();
        assert!(words.len() < 600 && words.chars().all(|c| !c.is_control()));
    } else {
        panic!("a secret out of nothing");
    }
});
