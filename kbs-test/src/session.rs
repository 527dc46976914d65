//! Sessions: who was challenged with what, and who may fetch the secret.
//!
//! A session goes one way: challenged, verifying, attested, gone. A challenge is consumed by the
//! first attempt to answer it, whatever the outcome, and an attested session by its one release. Time
//! is an argument everywhere, so that expiry can be tested without waiting.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kbs_types::Tee;
use rand_core::TryCryptoRng;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::claims::Claims;
use crate::tee_key::TeeKey;

/// Name of the cookie that carries the session id.
pub const COOKIE: &str = "kbs-session-id";

/// How long a session lasts.
pub const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// How many sessions may be open at once.
pub const MAX_SESSIONS: usize = 1024;

/// Size of a challenge in bytes, before base64.
const NONCE_SIZE: usize = 32;

/// Why a session cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    /// The request has no session cookie.
    #[error("no {COOKIE} cookie: start with /kbs/v0/auth")]
    NoCookie,
    /// The cookie names no session; it may have ended.
    #[error("no such session, or it has ended: start again with /kbs/v0/auth")]
    Unknown,
    /// The session is older than [`LIFETIME`].
    #[error("the session has expired: start again with /kbs/v0/auth")]
    Expired,
    /// A second answer to the same challenge.
    #[error("the challenge of this session was used before: start again with /kbs/v0/auth")]
    ChallengeUsed,
    /// The secret was asked for before the evidence was accepted.
    #[error("the session is not attested: send the evidence to /kbs/v0/attest first")]
    NotAttested,
    /// [`MAX_SESSIONS`] sessions are open.
    #[error("too many open sessions ({MAX_SESSIONS}): try again in five minutes")]
    Full,
    /// The operating system gave no random bytes.
    #[error("the random source of the operating system failed")]
    Random,
}

/// The value of the session cookie: 128 random bits. Who knows it owns the session, so it is not
/// printed; messages carry the session's number instead.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// Takes the value of the cookie as it came.
    pub fn from_cookie(value: &str) -> Self {
        Self(value.to_owned())
    }

    /// The value for the cookie.
    pub fn as_cookie(&self) -> &str {
        &self.0
    }
}

impl SessionId {
    /// Identifies the session in the database, which does not hold what the cookie is: SHA-256.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(redacted)")
    }
}

/// Which exchange between SVSM and server a session carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// The plain KBS protocol: the answer is the secret and nothing else.
    Plain,
    /// 0.2.0: the answer is signed and carries the ledger.
    Authenticated,
}

/// Accepted evidence.
#[derive(Clone, Debug)]
pub struct Attested {
    /// The session's challenge.
    pub challenge: Challenge,
    /// The key to encrypt to.
    pub key: TeeKey,
    /// What the evidence says.
    pub claims: Claims,
}

/// A challenge as it was sent, in standard padded base64, and for what.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Number of the session, for messages.
    pub number: u64,
    /// The kind of evidence that was announced.
    pub tee: Tee,
    /// Which exchange was asked for.
    pub exchange: Exchange,
    /// 32 random bytes.
    pub nonce: [u8; NONCE_SIZE],
}

impl Challenge {
    /// The challenge as the protocol carries it.
    pub fn encoded(&self) -> String {
        BASE64_STANDARD.encode(self.nonce)
    }
}

enum State {
    Challenged,
    Verifying,
    Attested(Box<(TeeKey, Claims)>),
}

struct Session {
    challenge: Challenge,
    expires: Instant,
    state: State,
}

/// All open sessions.
#[derive(Default)]
pub struct Sessions {
    open: HashMap<SessionId, Session>,
    last_number: u64,
}

impl Sessions {
    /// Opens a session with a fresh challenge for evidence of `tee`.
    pub fn open<R: TryCryptoRng>(
        &mut self,
        now: Instant,
        tee: Tee,
        exchange: Exchange,
        rng: &mut R,
    ) -> Result<(SessionId, Challenge), SessionError> {
        self.open.retain(|_, session| session.expires > now);
        if self.open.len() >= MAX_SESSIONS {
            return Err(SessionError::Full);
        }
        let (mut id, mut nonce) = ([0; 16], [0; NONCE_SIZE]);
        rng.try_fill_bytes(&mut id)
            .and_then(|()| rng.try_fill_bytes(&mut nonce))
            .map_err(|_| SessionError::Random)?;
        self.last_number += 1;
        let challenge = Challenge {
            number: self.last_number,
            tee,
            exchange,
            nonce,
        };
        let id = SessionId(hex::encode(id));
        let session = Session {
            challenge: challenge.clone(),
            expires: now + LIFETIME,
            state: State::Challenged,
        };
        self.open.insert(id.clone(), session);
        Ok((id, challenge))
    }

    /// Hands out the challenge of a session to be answered, once.
    pub fn take_challenge(
        &mut self,
        now: Instant,
        id: &SessionId,
    ) -> Result<Challenge, SessionError> {
        let session = self.live(now, id)?;
        match session.state {
            State::Challenged => {
                session.state = State::Verifying;
                Ok(session.challenge.clone())
            }
            State::Verifying | State::Attested(_) => Err(SessionError::ChallengeUsed),
        }
    }

    /// Records that the evidence of `id` was accepted, what it says, and that it binds `key`.
    pub fn accept(
        &mut self,
        now: Instant,
        id: &SessionId,
        key: TeeKey,
        claims: Claims,
    ) -> Result<(), SessionError> {
        let session = self.live(now, id)?;
        session.state = State::Attested(Box::new((key, claims)));
        Ok(())
    }

    /// Ends a session.
    pub fn close(&mut self, id: &SessionId) {
        self.open.remove(id);
    }

    /// Whether a session is attested; it stays as it is.
    pub fn attested(&mut self, now: Instant, id: &SessionId) -> Result<(), SessionError> {
        match self.live(now, id)?.state {
            State::Attested(_) => Ok(()),
            State::Challenged | State::Verifying => Err(SessionError::NotAttested),
        }
    }

    /// Ends an attested session and hands out what it may be given for.
    pub fn take(&mut self, now: Instant, id: &SessionId) -> Result<Attested, SessionError> {
        self.attested(now, id)?;
        match self.open.remove(id) {
            Some(Session {
                state: State::Attested(evidence),
                challenge,
                ..
            }) => {
                let (key, claims) = *evidence;
                Ok(Attested {
                    challenge,
                    key,
                    claims,
                })
            }
            _ => Err(SessionError::Unknown),
        }
    }

    fn live(&mut self, now: Instant, id: &SessionId) -> Result<&mut Session, SessionError> {
        if self.open.get(id).is_some_and(|s| s.expires <= now) {
            self.open.remove(id);
            return Err(SessionError::Expired);
        }
        self.open.get_mut(id).ok_or(SessionError::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tee_key::tests::{CountingRng, key_pair};

    fn claims() -> Claims {
        Claims::sample(None, [0; 48])
    }

    fn opened(sessions: &mut Sessions, now: Instant) -> SessionId {
        let rng = &mut CountingRng::new(sessions.last_number as u8);
        sessions
            .open(now, Tee::Sample, Exchange::Plain, rng)
            .unwrap()
            .0
    }

    #[test]
    fn challenge_is_handed_out_once() {
        let (mut s, now) = (Sessions::default(), Instant::now());
        let id = opened(&mut s, now);
        assert!(s.take_challenge(now, &id).is_ok());
        let again = s.take_challenge(now, &id).unwrap_err();
        assert_eq!(again, SessionError::ChallengeUsed);
    }

    #[test]
    fn key_comes_out_once_and_only_after_acceptance() {
        let (mut s, now) = (Sessions::default(), Instant::now());
        let id = opened(&mut s, now);
        assert_eq!(s.take(now, &id).unwrap_err(), SessionError::NotAttested);
        s.take_challenge(now, &id).unwrap();
        assert_eq!(s.take(now, &id).unwrap_err(), SessionError::NotAttested);
        s.accept(now, &id, key_pair(1).1, claims()).unwrap();
        assert!(s.take(now, &id).is_ok());
        assert_eq!(s.take(now, &id).unwrap_err(), SessionError::Unknown);
    }

    #[test]
    fn acceptance_of_one_session_gives_nothing_to_another() {
        let (mut s, now) = (Sessions::default(), Instant::now());
        let (one, two) = (opened(&mut s, now), opened(&mut s, now));
        s.take_challenge(now, &one).unwrap();
        s.accept(now, &one, key_pair(1).1, claims()).unwrap();
        assert_eq!(s.take(now, &two).unwrap_err(), SessionError::NotAttested);
    }

    #[test]
    fn session_expires_after_five_minutes() {
        let (mut s, now) = (Sessions::default(), Instant::now());
        let id = opened(&mut s, now);
        let last = now + LIFETIME - Duration::from_millis(1);
        assert!(s.live(last, &id).is_ok());
        let late = s.take_challenge(now + LIFETIME, &id).unwrap_err();
        assert_eq!(late, SessionError::Expired);
        let gone = s.take_challenge(now, &id).unwrap_err();
        assert_eq!(gone, SessionError::Unknown);
    }

    #[test]
    fn number_of_sessions_is_bounded_and_expiry_makes_room() {
        let (mut s, now) = (Sessions::default(), Instant::now());
        let mut rng = CountingRng::new(0);
        for _ in 0..MAX_SESSIONS {
            s.open(now, Tee::Sample, Exchange::Plain, &mut rng).unwrap();
        }
        let full = s
            .open(now, Tee::Sample, Exchange::Plain, &mut rng)
            .unwrap_err();
        assert_eq!(full, SessionError::Full);
        assert!(
            s.open(now + LIFETIME, Tee::Sample, Exchange::Plain, &mut rng)
                .is_ok()
        );
        assert_eq!(s.open.len(), 1);
    }
}
