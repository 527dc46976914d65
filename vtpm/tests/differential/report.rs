//! What came of it, in numbers.

use std::{collections::BTreeMap, fs};

use vtpm::table;

use crate::{
    authorize::Opened,
    explained::EXPLAINED,
    step::{Pair, Step},
};

#[derive(Default)]
pub struct Report {
    pub commands: u64,
    /// By command code: sent, succeeded.
    by_code: BTreeMap<u32, (u64, u64)>,
    /// By response code.
    by_response: BTreeMap<u32, u64>,
    /// By command and response code.
    failures: BTreeMap<(u32, u32), u64>,
    /// Sessions in successful answers, and those whose HMAC was verified.
    sessions: u64,
    verified: u64,
    explained: BTreeMap<usize, u64>,
    /// By kind: how often, and the first.
    unexplained: BTreeMap<String, (u64, String)>,
}

impl Report {
    pub fn count(&mut self, step: &Step, code: u32, opened: Option<&Pair<Opened>>) {
        self.commands += 1;
        let entry = self.by_code.entry(step.code).or_default();
        entry.0 += 1;
        if code == 0 {
            entry.1 += 1;
        } else {
            *self.failures.entry((step.code, code)).or_default() += 1;
        }
        *self.by_response.entry(code).or_default() += 1;
        for opened in opened.into_iter().flatten() {
            for (session, auth) in opened.sessions.iter().zip(&step.auths) {
                if auth.session().is_some() {
                    self.sessions += 1;
                    self.verified += u64::from(session.verified);
                }
            }
        }
    }

    pub fn explained(&mut self, rule: usize) {
        *self.explained.entry(rule).or_default() += 1;
    }

    pub fn unexplained_difference(&mut self, step: &Step, what: &str, detail: String) {
        let name = table::find(step.code).map_or("?", |command| command.name);
        let kind = format!("{:#05x} {name}: {what}", step.code);
        self.unexplained.entry(kind).or_insert((0, detail)).0 += 1;
    }

    pub fn unexplained(&self) -> u64 {
        self.unexplained.values().map(|(count, _)| count).sum()
    }

    fn numbers(&self) -> Vec<(&'static str, u64)> {
        let succeeded = |(code, (_, succeeded)): (&u32, &(u64, u64))| {
            table::find(*code).is_some() && *succeeded > 0
        };
        vec![
            ("tpm.diff.commands", self.commands),
            (
                "tpm.diff.succeeded",
                self.by_response.get(&0).copied().unwrap_or(0),
            ),
            (
                "tpm.diff.codes_that_succeeded",
                self.by_code
                    .iter()
                    .filter(|entry| succeeded(*entry))
                    .count() as u64,
            ),
            ("tpm.diff.response_codes", self.by_response.len() as u64),
            ("tpm.diff.sessions", self.sessions),
            ("tpm.diff.sessions_verified", self.verified),
            ("tpm.diff.explained", self.explained.values().sum()),
            ("tpm.diff.unexplained", self.unexplained()),
        ]
    }

    pub fn print(&self) {
        let mut sorted: Vec<_> = self.unexplained.iter().collect();
        sorted.sort_by_key(|(_, (count, _))| core::cmp::Reverse(*count));
        for (kind, (count, detail)) in sorted {
            println!("{count} x {kind}\n    {detail}");
        }
        for (rule, count) in &self.explained {
            println!("{count} explained: {}", EXPLAINED[*rule].why);
        }
        for command in table::COMMANDS {
            let (sent, succeeded) = self.by_code.get(&command.code).copied().unwrap_or_default();
            println!(
                "{:<28} {sent:>7} sent {succeeded:>7} succeeded; {}",
                command.name,
                self.reasons(command.code)
            );
        }
        for (key, number) in self.numbers() {
            println!("{key} {number}");
        }
    }

    /// The most frequent codes that a command failed with.
    fn reasons(&self, command: u32) -> String {
        let mut codes: Vec<_> = self
            .failures
            .range((command, 0)..=(command, u32::MAX))
            .collect();
        codes.sort_by_key(|(_, count)| core::cmp::Reverse(**count));
        let shown = codes
            .iter()
            .take(4)
            .map(|((_, code), count)| format!("{code:#05x} x {count}"));
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Adds the numbers to the JSON object in the file that `PROOFS_JSON` names.
    pub fn record(&self) {
        let Some(path) = std::env::var_os("PROOFS_JSON") else {
            return;
        };
        let mut object: serde_json::Map<String, serde_json::Value> = fs::read(&path).map_or_else(
            |_| serde_json::Map::new(),
            |bytes| serde_json::from_slice(&bytes).expect("PROOFS_JSON holds an object"),
        );
        for (key, number) in self.numbers() {
            object.insert(key.into(), number.into());
        }
        fs::write(
            &path,
            serde_json::to_vec_pretty(&object).expect("it is JSON"),
        )
        .expect("PROOFS_JSON can be written");
    }
}
