//! `guestlink manifest`: the services manifest, as the attestation protocol gives it.

use anyhow::{Context, Result, bail, ensure};
use guestlink::client::Region;
use serde::Serialize;
use uefivars::Guid;

use crate::svsm::{self, BASE, Link};

const ATTESTATION: u32 = 1;
const ATTEST_SERVICES: u32 = 0;

const PAGE: u64 = 4096;
/// Where the operation's nonce, manifest and report are.
const NONCE_AT: u64 = BASE + 0x100;
const MANIFEST_AT: u64 = BASE + PAGE;
const MANIFEST_ROOM: u64 = 4 * PAGE;
const REPORT_AT: u64 = MANIFEST_AT + MANIFEST_ROOM;
const REPORT_ROOM: u64 = PAGE;

const VTPM: &str = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3";
const UEFI_MM: &str = "a4453a59-9e1b-4787-a033-1986d6adbe55";
const MANIFEST: &str = "63849ebb-3d92-4670-a1ff-58f9c94b87bb";

/// The services manifest and the report about it.
#[derive(Serialize)]
struct Shown {
    services: Vec<Service>,
    /// The hardware's report in hex; empty where there is no such hardware.
    report: String,
    manifest: String,
}

#[derive(Serialize)]
struct Service {
    guid: String,
    name: &'static str,
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Flags>,
}

#[derive(Serialize)]
struct Flags {
    persistent_nv_vars: bool,
    secureboot_enabled: bool,
    secureboot_db_update: bool,
}

/// Fetches and prints it.
pub fn show(link: &mut Link, json: bool) -> Result<()> {
    let mut region = svsm::memory((REPORT_AT + REPORT_ROOM - BASE) as usize);
    region.bytes[..0x40].copy_from_slice(&operation());
    let outcome = link.call(ATTESTATION, ATTEST_SERVICES, [BASE, 0, 0, 0], &mut region)?;
    let [manifest_len, _, report_len, _] = svsm::expect("attest services", outcome)?;
    let manifest = piece(&region, MANIFEST_AT, manifest_len, MANIFEST_ROOM)?;
    let report = piece(&region, REPORT_AT, report_len, REPORT_ROOM)?;
    let shown = Shown {
        services: parse(manifest).context("services manifest")?,
        report: hex::encode(report),
        manifest: hex::encode(manifest),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        print(&shown);
    }
    Ok(())
}

/// The operation structure: buffers for report, nonce and manifest, no certificates.
fn operation() -> Vec<u8> {
    [
        REPORT_AT,
        REPORT_ROOM,
        NONCE_AT,
        64,
        MANIFEST_AT,
        MANIFEST_ROOM,
        0,
        0,
    ]
    .iter()
    .flat_map(|field: &u64| field.to_le_bytes())
    .collect()
}

fn piece(region: &Region, address: u64, length: u64, room: u64) -> Result<&[u8]> {
    ensure!(
        length <= room,
        "the SVSM answers with sizes that do not fit"
    );
    let at = (address - BASE) as usize;
    Ok(&region.bytes[at..at + length as usize])
}

fn parse(manifest: &[u8]) -> Result<Vec<Service>> {
    ensure!(guid_at(manifest, 0)? == MANIFEST, "it has another GUID");
    ensure!(
        number_at(manifest, 16)? as usize == manifest.len(),
        "it tells another length"
    );
    let count = number_at(manifest, 20)? as usize;
    (0..count.min(64))
        .map(|entry| {
            let at = 24 + 24 * entry;
            let guid = guid_at(manifest, at)?;
            let offset = number_at(manifest, at + 16)? as usize;
            let length = number_at(manifest, at + 20)? as usize;
            let data = manifest
                .get(offset..)
                .and_then(|rest| rest.get(..length))
                .context("a service's data is outside of it")?;
            let flags = match guid.as_str() {
                UEFI_MM => Some(flags(data)?),
                _ => None,
            };
            let name = match guid.as_str() {
                VTPM => "vTPM: TPMT_PUBLIC of the endorsement key",
                UEFI_MM => "UEFI MM",
                _ => "unknown",
            };
            Ok(Service {
                guid,
                name,
                data: hex::encode(data),
                flags,
            })
        })
        .collect()
}

fn flags(data: &[u8]) -> Result<Flags> {
    if number_at(data, 0)? != 0 {
        bail!("the UEFI MM manifest has an unknown version");
    }
    let bits = number_at(data, 4)?;
    Ok(Flags {
        persistent_nv_vars: bits & 1 != 0,
        secureboot_enabled: bits & 2 != 0,
        secureboot_db_update: bits & 4 != 0,
    })
}

fn number_at(bytes: &[u8], at: usize) -> Result<u32> {
    let number = bytes.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_le_bytes(*number.context("it is too short")?))
}

fn guid_at(bytes: &[u8], at: usize) -> Result<String> {
    let guid = bytes.get(at..).and_then(|rest| rest.first_chunk());
    Ok(Guid::from_bytes(*guid.context("it is too short")?).to_string())
}

fn print(shown: &Shown) {
    for service in &shown.services {
        println!("{}  {}", service.guid, service.name);
        if let Some(flags) = &service.flags {
            println!("  persistent variables: {}", flags.persistent_nv_vars);
            println!("  Secure Boot: {}", flags.secureboot_enabled);
            println!(
                "  signature database updates: {}",
                flags.secureboot_db_update
            );
        }
        println!("  {}", service.data);
    }
    if shown.report.is_empty() {
        println!("no report: the platform has no hardware to vouch for this");
    } else {
        println!("report  {}", shown.report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = MANIFEST.parse::<Guid>().unwrap().to_bytes().to_vec();
        bytes.extend(56_u32.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(UEFI_MM.parse::<Guid>().unwrap().to_bytes());
        bytes.extend(48_u32.to_le_bytes());
        bytes.extend(8_u32.to_le_bytes());
        bytes.extend([0, 0, 0, 0, 5, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_manifest_is_understood() {
        let services = parse(&sample()).unwrap();
        assert_eq!(services.len(), 1);
        let flags = services[0].flags.as_ref().unwrap();
        assert!(flags.persistent_nv_vars && flags.secureboot_db_update);
        assert!(!flags.secureboot_enabled);
    }

    #[test]
    fn a_manifest_with_nonsense_is_refused() {
        for (at, bad) in [(0, 0_u32), (16, 55), (20, 2), (40, 49), (44, 9), (48, 1)] {
            let mut bytes = sample();
            bytes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
            assert!(parse(&bytes).is_err(), "{at}");
        }
        for length in 0..sample().len() {
            assert!(parse(&sample()[..length]).is_err());
        }
    }
}
