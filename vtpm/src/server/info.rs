//! The answer to `CMD_GET_INFO`: what certificates say about a TPM, as JSON.
//!
//! Always true: it is asked of the device itself, so it holds for whatever is behind it.

use std::{format, string::String, vec::Vec};

use super::Device;

const SPECIFICATION: u64 = 1;
const ATTRIBUTES: u64 = 2;

/// `TPM_PT_LEVEL`, `TPM_PT_REVISION`, `TPM_PT_MANUFACTURER`, `TPM_PT_FIRMWARE_VERSION_1`
const LEVEL: u32 = 0x101;
const REVISION: u32 = 0x102;
const MANUFACTURER: u32 = 0x105;
const FIRMWARE_VERSION_1: u32 = 0x10B;

/// The parts that `flags` asks for; nothing when the TPM does not say.
pub(super) fn json(device: &mut dyn Device, flags: u64) -> Option<String> {
    let mut parts = Vec::new();
    if flags & SPECIFICATION != 0 {
        let (level, revision) = (property(device, LEVEL)?, property(device, REVISION)?);
        parts.push(format!(
            r#""TPMSpecification":{{"family":"2.0","level":{level},"revision":{revision}}}"#
        ));
    }
    if flags & ATTRIBUTES != 0 {
        let (manufacturer, version) = (
            property(device, MANUFACTURER)?,
            property(device, FIRMWARE_VERSION_1)?,
        );
        parts.push(format!(
            r#""TPMAttributes":{{"manufacturer":"id:{manufacturer:08X}","version":"id:{version:08X}","model":"svsm-vtpm"}}"#
        ));
    }
    Some(format!("{{{}}}", parts.join(",")))
}

/// One property, by `TPM2_GetCapability(TPM_CAP_TPM_PROPERTIES)`.
fn property(device: &mut dyn Device, property: u32) -> Option<u32> {
    let mut command = std::vec![0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7A, 0, 0, 0, 6];
    command.extend_from_slice(&property.to_be_bytes());
    command.extend_from_slice(&1u32.to_be_bytes());
    let mut response = Vec::new();
    device.execute(0, &command, &mut response).ok()?;
    // Header, moreData, capability, count; then the property and its value.
    let found = response
        .get(19..23)?
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))?;
    let value = response
        .get(23..27)?
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))?;
    (response.get(6..10) == Some(&[0; 4]) && found == property).then_some(value)
}
