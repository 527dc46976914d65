//! Valid answers, damaged at random: never a panic, never a wait without end, never
//! another secret than the server's.

use crate::SECRET;
use crate::proxy::{Proxy, attest_with, last_elapsed, some_key};
use crate::server::{framed, honest, negotiation, release};
use libaproxy::frame;
use std::time::Duration;

/// Rounds per answer; `ATTEST_MUTATIONS` asks for more.
fn rounds() -> u32 {
    let asked = std::env::var("ATTEST_MUTATIONS").ok();
    asked.map_or(1500, |rounds| rounds.parse().expect("a number of rounds"))
}

/// xorshift64*: the same damage at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    /// Does one thing to `bytes` that a bad line or a bad peer may do.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const SYNTAX: &[u8] = b"\"{}[],:\\0-9eE.tfnu=+/_ \x00\xff\n";
        let at = self.below(bytes.len());
        let end = at + self.below(bytes.len() - at);
        match self.below(8) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = SYNTAX[self.below(SYNTAX.len())],
            2 => bytes.insert(at, SYNTAX[self.below(SYNTAX.len())]),
            3 => bytes.truncate(at.max(1)),
            4 => drop(bytes.drain(at..end.min(at + 40))),
            5 => {
                let copy = bytes[at..end.min(at + 40)].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            6 => bytes[at..end].reverse(),
            _ => bytes.extend_from_within(at..end),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }

    /// `json` as a message, damaged inside the frame or frame and all.
    fn damaged_message(&mut self, json: &[u8]) -> Vec<u8> {
        let inside = self.below(3) > 0;
        let mut bytes = if inside { json.to_vec() } else { framed(json) };
        for _ in 0..=self.below(3) {
            self.damage(&mut bytes);
        }
        if inside { framed(&bytes) } else { bytes }
    }
}

fn json_of(message: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(message).unwrap()
}

#[test]
fn damaged_negotiation_never_ends_badly() {
    let mut dice = Dice(0x5eed);
    let good = json_of(&negotiation());
    for _ in 0..rounds() {
        let bad = dice.damaged_message(&good);
        let result = attest_with(&mut Proxy::saying([bad]), &some_key());
        assert!(result.is_err());
        assert!(last_elapsed() < Duration::from_secs(85));
    }
}

#[test]
fn damaged_decision_never_ends_badly() {
    let mut dice = Dice(0xd1ce);
    let mut recording = honest(&SECRET);
    attest_with(&mut recording, &some_key()).unwrap();
    let good = json_of(&release(&recording.requests[1], &SECRET));
    let first = frame::encode(&negotiation()).unwrap();
    let mut survived = 0;
    for _ in 0..rounds() {
        let bad = dice.damaged_message(&good);
        match attest_with(&mut Proxy::saying([first.clone(), bad]), &some_key()) {
            Ok(attestation) => {
                survived += 1;
                assert_eq!(attestation.secret.root_key(), SECRET);
            }
            Err(error) => {
                let message = error.to_string();
                assert!(message.len() < 300 && message.bytes().all(|b| (0x20..0x7f).contains(&b)));
            }
        }
        assert!(last_elapsed() < Duration::from_secs(85));
    }
    assert!(survived < rounds() / 2, "the damage does no damage");
}
