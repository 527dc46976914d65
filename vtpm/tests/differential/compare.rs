//! Compares two answers: response codes, sessions, HMACs, and every field that depends on
//! nothing random.

use crate::{
    authorize::Opened,
    capability,
    explained::EXPLAINED,
    fields,
    sides::Exchange,
    step::{ENGINE, Pair, REFERENCE, Step, split_blob},
};

pub enum Difference {
    None,
    /// A difference that is meant: its number in [`EXPLAINED`].
    Explained(usize),
    Unexplained(String),
}

pub fn compare(step: &Step, exchange: &Exchange, opened: Option<&Pair<Opened>>) -> Difference {
    let (actual, expected) = (exchange.actual.code(), exchange.expected.code());
    let what = if actual != expected {
        format!("code {actual:#05x} instead of {expected:#05x}")
    } else if let Some(opened) = opened.filter(|_| actual == 0) {
        match sessions(opened).or_else(|| parameters(step, exchange, opened)) {
            Some(what) => what,
            None => return Difference::None,
        }
    } else {
        return Difference::None;
    };
    match EXPLAINED
        .iter()
        .position(|rule| (rule.applies)(step, exchange, &what))
    {
        Some(rule) => Difference::Explained(rule),
        None => Difference::Unexplained(what),
    }
}

fn sessions([engine, reference]: &Pair<Opened>) -> Option<String> {
    if engine.sessions.len() != reference.sessions.len() {
        return Some(format!(
            "{} sessions instead of {}",
            engine.sessions.len(),
            reference.sessions.len()
        ));
    }
    for (number, (a, b)) in engine.sessions.iter().zip(&reference.sessions).enumerate() {
        let what = if a.nonce.len() != b.nonce.len() {
            "nonce of another length".into()
        } else if a.attributes != b.attributes {
            format!(
                "attributes {:#04x} instead of {:#04x}",
                a.attributes, b.attributes
            )
        } else if a.proof != b.proof {
            format!("HMAC of {} bytes instead of {}", a.proof, b.proof)
        } else if a.verified != b.verified {
            format!("HMAC verifies: {} instead of {}", a.verified, b.verified)
        } else {
            continue;
        };
        return Some(format!("session {number}: {what}"));
    }
    None
}

fn parameters(step: &Step, exchange: &Exchange, opened: &Pair<Opened>) -> Option<String> {
    if exchange.code() != step.code {
        // Damage made another command of it, whose answers cannot be read like this one's.
        return None;
    }
    let handles = [&exchange.actual, &exchange.expected].map(|response| response.handle(step.code));
    if handles[ENGINE] != handles[REFERENCE] {
        return Some(format!(
            "handle {:x?} instead of {:x?}",
            handles[ENGINE], handles[REFERENCE]
        ));
    }
    let [engine, reference] = [
        &opened[ENGINE].parameters[..],
        &opened[REFERENCE].parameters,
    ];
    if let Some(wanted) = &step.expect
        && step.mutation.is_none()
    {
        let holds = |answer| split_blob(answer).is_some_and(|(found, _)| found == wanted);
        if holds(engine) != holds(reference) {
            return Some(format!(
                "the value that was put in: {} instead of {}",
                holds(engine),
                holds(reference)
            ));
        }
    }
    match step.code {
        0x17A => capability::compare(engine, reference),
        _ => fields::compare(step, [engine, reference]),
    }
}
