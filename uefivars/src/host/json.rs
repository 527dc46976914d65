//! The JSON of QEMU's variable service, version 2, which `virt-fw-vars` reads and writes.

use std::borrow::ToOwned;
use std::string::{String, ToString};
use std::vec::Vec;

use serde::{Deserialize, Serialize};
use uguid::Guid;
use zerocopy::{FromBytes, IntoBytes};

use crate::variable::{Key, Variable};
use crate::{Attributes, EfiTime};

#[derive(Serialize, Deserialize)]
struct Store {
    version: u32,
    variables: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    guid: String,
    attr: u32,
    data: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// Why JSON is no variable store.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("not the JSON of a variable store: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a variable store of version {0}; only 2 is known")]
    Version(u32),
    #[error("variable {name}: {field} is not what it should be")]
    Field { name: String, field: &'static str },
}

/// Writes variables as JSON.
pub fn export<'a>(variables: impl Iterator<Item = &'a Variable>) -> String {
    let variables = variables
        .map(|variable| Entry {
            name: variable.key.name.to_string(),
            guid: variable.key.guid.to_string(),
            attr: variable.attributes.0,
            data: hex::encode(&variable.data),
            time: variable
                .attributes
                .authenticated()
                .then(|| hex::encode(variable.time.as_bytes())),
            digest: variable.owner.map(hex::encode),
        })
        .collect();
    let store = Store {
        version: 2,
        variables,
    };
    // Strings and numbers always have a JSON form.
    let mut json = serde_json::to_string_pretty(&store).unwrap_or_default();
    json.push('\n');
    json
}

/// Reads variables from JSON.
///
/// # Errors
/// What is wrong with it.
pub fn import(json: &str) -> Result<Vec<Variable>, JsonError> {
    let store: Store = serde_json::from_str(json)?;
    if store.version != 2 {
        return Err(JsonError::Version(store.version));
    }
    store.variables.iter().map(variable).collect()
}

fn variable(entry: &Entry) -> Result<Variable, JsonError> {
    let wrong = |field| JsonError::Field {
        name: entry.name.to_owned(),
        field,
    };
    let guid = entry.guid.parse::<Guid>().map_err(|_| wrong("guid"))?;
    let key = Key::new(guid, &entry.name).map_err(|_| wrong("name"))?;
    let time = match &entry.time {
        Some(time) => hex::decode(time)
            .ok()
            .and_then(|time| EfiTime::read_from_bytes(&time).ok())
            .ok_or_else(|| wrong("time"))?,
        None => EfiTime::ZERO,
    };
    let owner = match &entry.digest {
        Some(digest) => {
            let mut owner = [0; 32];
            hex::decode_to_slice(digest, &mut owner).map_err(|_| wrong("digest"))?;
            Some(owner)
        }
        None => None,
    };
    Ok(Variable {
        key,
        attributes: Attributes(entry.attr),
        time,
        data: hex::decode(&entry.data).map_err(|_| wrong("data"))?,
        owner,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn variables_read_back_as_they_were_written() {
        let json = include_str!("../../tests/data/fedora-boot-1.json");
        let variables = import(json).unwrap();
        assert_eq!(variables.len(), 28);
        assert_eq!(import(&export(variables.iter())).unwrap(), variables);
    }

    #[test]
    fn damaged_json_is_an_error_and_names_the_variable() {
        let entry = |field: &str, value: &str| {
            let mut entry = serde_json::json!({
                "name": "A", "guid": "605dab50-e046-4300-abb6-3dd810dd8b23", "attr": 7, "data": "00",
            });
            entry[field] = value.into();
            let store = serde_json::json!({"version": 2, "variables": [entry]});
            import(&store.to_string()).unwrap_err().to_string()
        };
        for (field, value) in [
            ("data", "0"),
            ("data", "xx"),
            ("guid", "605dab50"),
            ("time", "00"),
            ("digest", "00"),
        ] {
            let message = format!("variable A: {field} is not what it should be");
            assert_eq!(entry(field, value), message);
        }
        assert!(import("{\"version\": 1, \"variables\": []}").is_err());
        assert!(import("[]").is_err());
    }
}
