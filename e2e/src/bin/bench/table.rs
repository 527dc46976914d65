//! Numbers with stable keys: a table for people, one flat JSON object for programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What was measured, in order.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    /// Counts that are larger than they may be.
    missed: Vec<String>,
}

struct Row {
    key: String,
    value: f64,
    /// The same for the obvious design, and what is to be reached.
    beside: Option<(String, String)>,
    meaning: String,
}

impl Table {
    /// Adds a number.
    pub fn add(&mut self, key: impl Into<String>, value: f64, meaning: impl Into<String>) {
        self.rows.push(Row {
            key: key.into(),
            value,
            beside: None,
            meaning: meaning.into(),
        });
    }

    /// Adds a count that must not be above `most`, beside what the obvious design costs.
    pub fn add_count(&mut self, key: &str, count: f64, obvious: &str, most: u32, meaning: &str) {
        self.add_beside(key, count, obvious, &most.to_string(), meaning);
        if count > f64::from(most) {
            self.missed
                .push(format!("{key} is {count}, not {most} or less"));
        }
    }

    /// Adds a time or a ratio of times beside what the obvious design takes and what is to
    /// be reached. The goal is shown only: times depend on the machine and its load.
    pub fn add_beside(&mut self, key: &str, value: f64, obvious: &str, goal: &str, meaning: &str) {
        self.add(key, value, meaning);
        if let Some(row) = self.rows.last_mut() {
            row.beside = Some((obvious.to_owned(), goal.to_owned()));
        }
    }

    /// Prints everything and writes it to `output`.
    ///
    /// # Errors
    /// When that fails, or a count is above its bound.
    pub fn finish(&self, output: &Path) -> Result<()> {
        println!(
            "{:<38} {:>12} {:>12} {:>8}  meaning",
            "key", "value", "obvious", "goal"
        );
        let mut object = serde_json::Map::new();
        for row in &self.rows {
            let (obvious, goal) = row.beside.clone().unwrap_or_default();
            let digits = if row.value.fract() == 0.0 { 0 } else { 2 };
            println!(
                "{:<38} {:>12.digits$} {obvious:>12} {goal:>8}  {}",
                row.key, row.value, row.meaning
            );
            object.insert(row.key.clone(), serde_json::json!(row.value));
        }
        let text = serde_json::to_string_pretty(&object)? + "\n";
        fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
        println!("written to {}", output.display());
        ensure!(self.missed.is_empty(), "{}", self.missed.join("\n"));
        Ok(())
    }
}
