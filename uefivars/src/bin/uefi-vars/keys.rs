//! Keys and hashes from files: certificates, signature lists, signed updates.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uefivars::auth::header::Request;
use uefivars::auth::x509::Certificate;
use uefivars::rules::SecureBootVariable::Database;
use uefivars::{Guid, guids, siglist};

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// Signature lists of all that is in `files`.
pub fn lists(files: &[PathBuf], owner: Guid) -> Result<Vec<u8>> {
    let mut lists = Vec::new();
    for file in files {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        lists.extend(read(file, &bytes, owner)?);
    }
    Ok(lists)
}

fn read(file: &Path, bytes: &[u8], owner: Guid) -> Result<Vec<u8>> {
    if let Some(text) = str::from_utf8(bytes)
        .ok()
        .filter(|text| text.contains(PEM_BEGIN))
    {
        let mut lists = Vec::new();
        for part in text.split(PEM_BEGIN).skip(1) {
            let (body, _) = part
                .split_once(PEM_END)
                .with_context(|| format!("{}: a certificate has no end", file.display()))?;
            let body: String = body.split_whitespace().collect();
            let der = STANDARD
                .decode(body)
                .ok()
                .with_context(|| format!("{}: not base64", file.display()))?;
            lists.extend(certificate(file, &der, owner)?);
        }
        return Ok(lists);
    }
    if Certificate::parse(bytes).is_ok() {
        return certificate(file, bytes, owner);
    }
    if siglist::check(Database, bytes).is_ok() {
        return Ok(bytes.to_vec());
    }
    match Request::parse(bytes) {
        Ok(update) if siglist::check(Database, update.payload).is_ok() => {
            Ok(update.payload.to_vec())
        }
        _ => bail!(
            "{}: neither a certificate nor a signature list nor an update with one",
            file.display()
        ),
    }
}

fn certificate(file: &Path, der: &[u8], owner: Guid) -> Result<Vec<u8>> {
    Certificate::parse(der)
        .with_context(|| format!("{}: not an X.509 certificate", file.display()))?;
    Ok(siglist::single(guids::CERT_X509, owner, der)?)
}
