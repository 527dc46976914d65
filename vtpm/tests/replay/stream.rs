//! Plays one stream.

use serde_json::Value;
use vtpm::{
    Tpm,
    crypto::{HashAlg, Native},
    storage::Memory,
};

use crate::{
    environment::Fixed,
    layout::{self, Field, blob, split, u16_at, u32_at},
    names::Names,
    sessions::{self, Auth, DECRYPT, ENCRYPTION, PASSWORD, Sessions},
    substitution::Substitution,
};

const START_AUTH_SESSION: u32 = 0x176;
const RSA_DECRYPT: u32 = 0x159;
const CREATE: u32 = 0x153;
const LOAD: u32 = 0x157;
const NULL: u32 = 0x4000_0007;

pub struct Report {
    pub replayed: usize,
    pub skipped: usize,
    pub differences: Vec<String>,
}

/// One side of an exchange, taken apart.
struct Response {
    code: u32,
    handle: Option<u32>,
    parameters: Vec<u8>,
    sessions: Vec<u8>,
}

impl Response {
    fn parse(command: u32, bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = u16_at(bytes)?;
        let (size, rest) = u32_at(rest)?;
        let (code, mut rest) = u32_at(rest)?;
        if size as usize != bytes.len() {
            return None;
        }
        let mut handle = None;
        if code == 0 && layout::response_handle(command) {
            let (found, after) = u32_at(rest)?;
            handle = Some(found);
            rest = after;
        }
        let (parameters, sessions) = if tag == 0x8002 {
            let (size, after) = u32_at(rest)?;
            after.split_at_checked(size as usize)?
        } else {
            (rest, &[][..])
        };
        Some(Self {
            code,
            handle,
            parameters: parameters.to_vec(),
            sessions: sessions.to_vec(),
        })
    }
}

/// What is done to the TPM.
pub enum Event<'a> {
    /// Power off and on again.
    PowerCycle,
    /// A command at a locality.
    Command(u8, &'a [u8]),
}

pub struct Player<'a> {
    tpm: Tpm,
    watch: &'a mut dyn FnMut(Event<'_>),
    started: bool,
    locality: u8,
    substitution: Substitution,
    recorded_names: Names,
    actual_names: Names,
    recorded_sessions: Sessions,
    actual_sessions: Sessions,
    /// Sessions with a salt or bind: their key is not in the record.
    keyed: Vec<u32>,
    /// Authorization values seen so far.
    values: Vec<Vec<u8>>,
    /// What Create gave where the recorded outPrivate is encrypted.
    unseen_private: Option<Vec<u8>>,
    report: Report,
}

impl<'a> Player<'a> {
    /// A player whose TPM is fresh; `watch` is told all that is done to it.
    pub fn new(watch: &'a mut dyn FnMut(Event<'_>)) -> Self {
        let environment = Box::new(Fixed::default());
        let (tpm, _) = Tpm::power_on(environment, Box::new(Memory::new()), &Native).unwrap();
        Self {
            tpm,
            watch,
            started: false,
            locality: 0,
            substitution: Substitution::default(),
            recorded_names: Names::default(),
            actual_names: Names::default(),
            recorded_sessions: Sessions::default(),
            actual_sessions: Sessions::default(),
            keyed: Vec::new(),
            values: vec![Vec::new()],
            unseen_private: None,
            report: Report {
                replayed: 0,
                skipped: 0,
                differences: Vec::new(),
            },
        }
    }

    pub fn finish(self) -> Report {
        self.report
    }

    fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        (self.watch)(Event::Command(self.locality, command));
        let mut response = Vec::new();
        self.tpm.execute(self.locality, command, &mut response);
        response
    }

    pub fn play(&mut self, line: usize, record: &Value) {
        if let Some(control) = record["ctrl"].as_u64() {
            if control == 2 {
                (self.watch)(Event::PowerCycle);
                self.tpm.power_cycle().unwrap();
                self.started = true;
            }
            return;
        }
        let bytes = |name: &str| hex::decode(record[name].as_str().unwrap()).unwrap();
        let (command, recorded) = (bytes("cmd"), bytes("rsp"));
        if !self.started {
            // These streams were recorded after the server had sent Startup(CLEAR).
            let response = self.execute(&[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0]);
            assert_eq!(response[6..], [0; 4]);
            self.started = true;
        }
        if let Err(difference) = self.exchange(&command, &recorded) {
            let code = record["cc"].as_str().unwrap_or("?").trim_start_matches('0');
            self.report
                .differences
                .push(format!("line {line}, command {code}: {difference}"));
        }
    }

    fn exchange(&mut self, command: &[u8], recorded: &[u8]) -> Result<(), String> {
        let Some(mut parts) = Command::parse(command) else {
            return self.raw(command, recorded);
        };
        if parts.code == RSA_DECRYPT {
            // The client encrypted to the key of the reference without its help.
            self.report.skipped += 1;
            return Ok(());
        }
        let encrypts = |s: &Auth| s.attributes & ENCRYPTION != 0 && self.keyed.contains(&s.handle);
        let in_the_clear = parts.sessions.iter().any(encrypts);
        if in_the_clear {
            parts.put_in_the_clear();
        }
        self.report.replayed += 1;
        let code = parts.code;
        self.learn_values(&parts);
        let actual_handles: Vec<u32> = parts
            .handles
            .iter()
            .map(|h| self.substitution.actual_handle(*h))
            .collect();
        let mut parameters = self.parameters(&parts);
        if code == START_AUTH_SESSION && parts.handles[0] != NULL {
            // The salt is for a key of the reference; a session nobody can use serves here.
            parameters = without_salt(&parameters);
        }
        let (sessions, keys) = self.authorize(&parts, &actual_handles, &parameters);
        let mut sent_handles = actual_handles.clone();
        if code == START_AUTH_SESSION {
            sent_handles.fill(NULL);
        }
        let sent = build(&parts, &sent_handles, &sessions, &parameters);
        let response = self.execute(&sent);
        let expected = Response::parse(code, recorded).ok_or("the record does not parse")?;
        let got = Response::parse(code, &response)
            .ok_or_else(|| format!("malformed response {}", hex::encode(&response)))?;
        if got.code != expected.code {
            return Err(format!(
                "response code {:#05x} instead of {:#05x}",
                got.code, expected.code
            ));
        }
        if got.code != 0 {
            return Ok(());
        }
        self.responded(&parts, &sessions, &keys, &expected, &got, in_the_clear)?;
        if parts.code == 0x162 {
            self.recorded_names
                .save(parts.handles[0], &expected.parameters);
            self.actual_names.save(actual_handles[0], &got.parameters);
        }
        if sent == command {
            let fixed = layout::deterministic(code, &expected.parameters);
            if !got.parameters.starts_with(fixed) {
                return Err(format!(
                    "answered {} instead of {}",
                    hex::encode(&got.parameters),
                    hex::encode(&expected.parameters)
                ));
            }
        }
        if in_the_clear && code == CREATE {
            self.unseen_private =
                split(Field::Blob, &got.parameters).map(|(private, _)| private.to_vec());
        }
        self.compare(code, &expected, &got)?;
        self.recorded_names.follow(
            code,
            &parts.handles,
            &parts.parameters,
            expected.handle,
            &expected.parameters,
        );
        self.actual_names.follow(
            code,
            &actual_handles,
            &parameters,
            got.handle,
            &got.parameters,
        );
        Ok(())
    }

    /// A command that is none: only the code is compared.
    fn raw(&mut self, command: &[u8], recorded: &[u8]) -> Result<(), String> {
        self.report.replayed += 1;
        let response = self.execute(command);
        // The reference keeps the tag of a request of the older version; any error will do.
        let code = |bytes: &[u8]| bytes.get(6..10).map(<[u8]>::to_vec);
        if code(recorded) == code(&response) || code(&response) == Some(vec![0, 0, 0, 0x1E]) {
            return Ok(());
        }
        Err(format!(
            "answered {} instead of {}",
            hex::encode(&response),
            hex::encode(recorded)
        ))
    }

    /// Authorization values that a command sets in plain text.
    fn learn_values(&mut self, parts: &Command) {
        let value = match parts.code {
            0x129 | 0x12A => blob(&parts.parameters).map(|found| found.0),
            0x131 | 0x153 => blob(&parts.parameters)
                .and_then(|(sensitive, _)| blob(sensitive))
                .map(|found| found.0),
            _ => None,
        };
        if let Some(value) = value
            && !self.values.iter().any(|known| known == value)
        {
            self.values.push(value.to_vec());
        }
    }

    fn parameters(&self, parts: &Command) -> Vec<u8> {
        let parameters = self.substitution.apply(&parts.parameters);
        if matches!(parts.code, 0x165) {
            let (handle, _) = u32_at(&parameters).unwrap();
            return self
                .substitution
                .actual_handle(handle)
                .to_be_bytes()
                .to_vec();
        }
        if let (LOAD, Some(private)) = (parts.code, &self.unseen_private) {
            let (_, public) = split(Field::Blob, &parameters).unwrap();
            return [private, public].concat();
        }
        parameters
    }

    /// The sessions as the engine must get them, with the keys of their HMACs.
    fn authorize(
        &mut self,
        parts: &Command,
        handles: &[u32],
        parameters: &[u8],
    ) -> (Vec<Auth>, Vec<Option<Vec<u8>>>) {
        let recorded_names: Vec<_> = parts
            .handles
            .iter()
            .map(|h| self.recorded_names.of(*h))
            .collect();
        let actual_names: Vec<_> = handles.iter().map(|h| self.actual_names.of(*h)).collect();
        let mut keys = Vec::new();
        let mut sessions = Vec::new();
        for session in &parts.sessions {
            let mut actual = session.clone();
            actual.handle = self.substitution.actual_handle(session.handle);
            let mut key = None;
            if session.handle != PASSWORD && !session.hmac.is_empty() {
                key = self
                    .values
                    .iter()
                    .find(|value| {
                        let made = self.recorded_sessions.command_hmac(
                            session,
                            value,
                            parts.code,
                            &recorded_names,
                            &parts.parameters,
                        );
                        made.as_ref() == Some(&session.hmac)
                    })
                    .cloned();
                // Without a key it was a wrong one, and stays wrong.
                if let Some(key) = &key {
                    actual.hmac = self
                        .actual_sessions
                        .command_hmac(&actual, key, parts.code, &actual_names, parameters)
                        .unwrap_or_default();
                }
            }
            keys.push(key);
            sessions.push(actual);
        }
        (sessions, keys)
    }

    /// Follows sessions through a successful exchange, and checks the response's HMACs.
    fn responded(
        &mut self,
        parts: &Command,
        sent: &[Auth],
        keys: &[Option<Vec<u8>>],
        expected: &Response,
        got: &Response,
        in_the_clear: bool,
    ) -> Result<(), String> {
        if !in_the_clear {
            self.sessions_responded(parts, sent, keys, expected, got)?;
        }
        self.handle_responded(parts, expected, got)
    }

    fn sessions_responded(
        &mut self,
        parts: &Command,
        sent: &[Auth],
        keys: &[Option<Vec<u8>>],
        expected: &Response,
        got: &Response,
    ) -> Result<(), String> {
        let recorded =
            sessions::parse_response(&expected.sessions, parts.sessions.iter().map(|s| s.handle))
                .ok_or("the record's sessions do not parse")?;
        let actual = sessions::parse_response(&got.sessions, sent.iter().map(|s| s.handle))
            .ok_or_else(|| format!("malformed sessions {}", hex::encode(&got.sessions)))?;
        for (index, (recorded, actual)) in recorded.iter().zip(&actual).enumerate() {
            if actual.attributes != recorded.attributes {
                return Err(format!(
                    "session attributes {:#x} instead of {:#x}",
                    actual.attributes, recorded.attributes
                ));
            }
            if actual.hmac.len() != recorded.hmac.len()
                || actual.nonce.len() != recorded.nonce.len()
            {
                return Err("a session's nonce or HMAC has another size".into());
            }
            if let Some(key) = &keys[index] {
                let key = response_key(parts, key, index);
                let made = self.actual_sessions.response_hmac(
                    actual,
                    &sent[index].nonce,
                    &key,
                    parts.code,
                    &got.parameters,
                );
                if made.as_ref() != Some(&actual.hmac) {
                    return Err("the HMAC of the response is wrong".into());
                }
            }
            self.recorded_sessions
                .roll(recorded.handle, &recorded.nonce);
            self.actual_sessions.roll(actual.handle, &actual.nonce);
        }
        Ok(())
    }

    fn handle_responded(
        &mut self,
        parts: &Command,
        expected: &Response,
        got: &Response,
    ) -> Result<(), String> {
        if let (Some(old), Some(new)) = (expected.handle, got.handle) {
            self.substitution.handle(old, new);
            if parts.code == START_AUTH_SESSION {
                let (_, rest) = blob(&parts.parameters).ok_or("StartAuthSession")?;
                let (salt, _) = blob(rest).ok_or("StartAuthSession")?;
                let (alg, _) = u16_at(&parts.parameters[parts.parameters.len() - 2..])
                    .ok_or("StartAuthSession")?;
                let alg = HashAlg::from_id(alg).ok_or("StartAuthSession")?;
                let nonce = |parameters: &[u8]| {
                    blob(parameters)
                        .map(|found| found.0.to_vec())
                        .unwrap_or_default()
                };
                self.recorded_sessions
                    .start(old, alg, &nonce(&expected.parameters));
                self.actual_sessions
                    .start(new, alg, &nonce(&got.parameters));
                self.keyed.retain(|handle| *handle != old);
                if !salt.is_empty() || parts.handles[1] != NULL {
                    self.keyed.push(old);
                }
            }
            // A loaded context brings its object's name or its session's nonce along.
            if parts.code == 0x161 {
                self.follow_context(old, new, &parts.parameters);
            }
        }
        Ok(())
    }

    fn follow_context(&mut self, old: u32, new: u32, recorded: &[u8]) {
        let actual = self.substitution.apply(recorded);
        self.recorded_names.load(old, recorded);
        self.actual_names.load(new, &actual);
    }

    /// Compares the fields of a response and notes them for later commands.
    fn compare(&mut self, code: u32, expected: &Response, got: &Response) -> Result<(), String> {
        let mut result = Ok(());
        let (mut old, mut new) = (&expected.parameters[..], &got.parameters[..]);
        for field in layout::response(code) {
            let (recorded, old_rest) =
                split(*field, old).ok_or("the record's parameters do not parse")?;
            let (actual, new_rest) = split(*field, new)
                .ok_or_else(|| format!("malformed parameters {}", hex::encode(&got.parameters)))?;
            let may_differ = matches!(
                field,
                Field::Opaque | Field::Context | Field::Signature | Field::Rest
            );
            if !may_differ && recorded.len() != actual.len() {
                let (actual, recorded) = (actual.len(), recorded.len());
                result = Err(format!("a field of {actual} bytes instead of {recorded}"));
            }
            if matches!(field, Field::Signature) && recorded[..4] != actual[..4] {
                result = Err("a signature of another scheme".into());
            }
            self.substitution.value(recorded, actual);
            if let (Field::Blob, Some((recorded, _)), Some((actual, _))) =
                (field, blob(recorded), blob(actual))
            {
                self.substitution.value(recorded, actual);
            }
            (old, new) = (old_rest, new_rest);
        }
        if !old.is_empty() || !new.is_empty() {
            return Err("more parameters than expected".into());
        }
        result
    }
}

/// A command that changes the authorization value of its first handle answers with the new one.
fn response_key(parts: &Command, key: &[u8], index: usize) -> Vec<u8> {
    match (parts.code, index) {
        (0x129, 0) => blob(&parts.parameters)
            .map(|found| found.0.to_vec())
            .unwrap_or_default(),
        _ => key.to_vec(),
    }
}

/// A command, taken apart.
pub struct Command {
    pub tag: u16,
    pub code: u32,
    pub handles: Vec<u32>,
    pub sessions: Vec<Auth>,
    pub parameters: Vec<u8>,
}

impl Command {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = u16_at(bytes)?;
        let (_, rest) = u32_at(rest)?;
        let (code, mut rest) = u32_at(rest)?;
        if !matches!(tag, 0x8001 | 0x8002) {
            return None;
        }
        let mut handles = Vec::new();
        for _ in 0..layout::command_handles(code) {
            let (handle, after) = u32_at(rest)?;
            handles.push(handle);
            rest = after;
        }
        let mut sessions = Vec::new();
        if tag == 0x8002 {
            let (size, after) = u32_at(rest)?;
            let (area, after) = after.split_at_checked(size as usize)?;
            sessions = sessions::parse_command(area)?;
            rest = after;
        }
        Some(Self {
            tag,
            code,
            handles,
            sessions,
            parameters: rest.to_vec(),
        })
    }
}

impl Command {
    /// The same without the sessions whose keys are not in the record: authorization with an
    /// empty password, and of an encrypted first parameter only the size.
    fn put_in_the_clear(&mut self) {
        let encrypted = self.sessions.iter().any(|s| s.attributes & DECRYPT != 0);
        let authorizes = matches!(self.code, CREATE | LOAD | 0x15E | 0x151);
        let policy = self
            .sessions
            .first()
            .is_some_and(|s| s.handle >> 24 == 0x03);
        if !authorizes {
            self.sessions.clear();
            self.tag = 0x8001;
        } else {
            self.sessions.truncate(1);
            if !policy {
                self.sessions[0] = Auth {
                    handle: PASSWORD,
                    nonce: vec![],
                    attributes: 1,
                    hmac: vec![],
                };
            }
            // A policy session that was started without salt and bind has no key either.
            self.sessions[0].hmac.clear();
            self.sessions[0].attributes &= !ENCRYPTION;
        }
        if self.code == CREATE && encrypted {
            let (size, rest) = u16_at(&self.parameters).unwrap();
            let data = vec![0x5A; usize::from(size) - 4];
            let sensitive = [&[0, 0], &(size - 4).to_be_bytes()[..], &data].concat();
            let rest = &rest[usize::from(size)..];
            self.parameters = [&size.to_be_bytes()[..], &sensitive, rest].concat();
        }
    }
}

fn build(parts: &Command, handles: &[u32], sessions: &[Auth], parameters: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&parts.code.to_be_bytes());
    for handle in handles {
        body.extend_from_slice(&handle.to_be_bytes());
    }
    if parts.tag == 0x8002 {
        let area = sessions::build(sessions);
        body.extend_from_slice(&u32::try_from(area.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&area);
    }
    body.extend_from_slice(parameters);
    let size = u32::try_from(body.len() + 6).unwrap();
    [&parts.tag.to_be_bytes()[..], &size.to_be_bytes(), &body].concat()
}

/// StartAuthSession's parameters with an empty encryptedSalt.
fn without_salt(parameters: &[u8]) -> Vec<u8> {
    let (nonce, rest) = split(Field::Blob, parameters).unwrap();
    let (_, rest) = split(Field::Blob, rest).unwrap();
    [nonce, &[0, 0], rest].concat()
}
