//! Recorded boots, and how the answers of this service compare to the recorded ones.
//!
//! A recording is a pcap file of link type 302 (EDK2_MM): each packet is a type, 1 =
//! reset, 2 = request, 3 = reply, and the whole MM buffer. Recorded was QEMU. Where this
//! service answers otherwise it is on purpose, and [`Rule`] says what for; everything
//! else has to be the same, byte for byte.

use std::io::{self, Read};
use std::vec::Vec;

use flate2::read::GzDecoder;

use crate::Status;
use crate::bytes::{u32_at, u64_at};

const PCAP_MAGIC: u32 = 0xa1b2_c3d4;
const LINK_TYPE: u32 = 302;
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// One step of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The machine starts.
    Reset,
    /// A buffer that was sent, and what was in it after.
    Call { request: Vec<u8>, reply: Vec<u8> },
}

/// Reads a recording, compressed with gzip.
///
/// # Errors
/// Where it is none.
pub fn read(compressed: &[u8]) -> io::Result<Vec<Step>> {
    let mut file = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut file)?;
    parse(&file).ok_or_else(|| io::Error::other("not a recording of MM communication"))
}

fn parse(file: &[u8]) -> Option<Vec<Step>> {
    if u32_at(file, 0)? != PCAP_MAGIC || u32_at(file, 20)? != LINK_TYPE {
        return None;
    }
    let mut rest = file.get(FILE_HEADER..)?;
    let mut steps = Vec::new();
    let mut request = None;
    while !rest.is_empty() {
        let size = u32_at(rest, 8)? as usize;
        let packet = rest.get(PACKET_HEADER..PACKET_HEADER.checked_add(size)?)?;
        rest = &rest[PACKET_HEADER + size..];
        let data = packet.get(4..)?.to_vec();
        match u32_at(packet, 0)? {
            1 => steps.push(Step::Reset),
            2 => request = Some(data),
            3 => steps.push(Step::Call {
                request: request.take()?,
                reply: data,
            }),
            _ => return None,
        }
    }
    Some(steps)
}

/// Why an answer differs from QEMU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// GetPayloadSize: the largest body that fits into the buffer behind the headers. The
    /// recorded QEMU named the whole buffer.
    PayloadSize,
    /// QueryVariableInfo: the room there really is, and the limit for one variable.
    StorageInfo,
    /// GetNextVariableName: variables stay in the order of their creation. QEMU moves one
    /// to the end with each write. The end of the enumeration moves with it.
    Enumeration,
    /// SetVariable: deleting what is not there is EFI_NOT_FOUND (UEFI 2.11, section
    /// 8.2.3). QEMU calls it success.
    DeleteAbsent,
    /// GetVariable: AuditMode and DeployedMode are there (UEFI 2.11, section 3.3). QEMU has
    /// only setup and user mode.
    ModeVariables,
}

const GET: u64 = 1;
const GET_NEXT: u64 = 2;
const SET: u64 = 3;
const QUERY_INFO: u64 = 4;
const PAYLOAD_SIZE: u64 = 11;

/// The rule that makes this service answer otherwise, if there is one.
pub fn justify(request: &[u8], recorded: &[u8], answered: &[u8]) -> Option<Rule> {
    let header = |buffer: &[u8]| buffer.get(..32).map(<[u8]>::to_vec);
    if request[..16] != crate::guids::MM_VARIABLE.to_bytes()
        || recorded.len() != answered.len()
        || header(recorded) != header(answered)
    {
        return None;
    }
    let status = |buffer| u64_at(buffer, 32).map(Status);
    let (then, now) = (status(recorded)?, status(answered)?);
    match u64_at(request, 24)? {
        PAYLOAD_SIZE => (now == Status::SUCCESS && then == now).then_some(Rule::PayloadSize),
        QUERY_INFO => {
            // The limit of the whole store is the same.
            let same = recorded[40..48] == answered[40..48];
            (now == Status::SUCCESS && then == now && same).then_some(Rule::StorageInfo)
        }
        GET => {
            let name = request.get(76..)?;
            let is = |text: &str| {
                text.encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .chain([0, 0])
                    .eq(name.iter().copied())
            };
            let found = now == Status::BUFFER_TOO_SMALL && u64_at(answered, 56) == Some(1);
            (then == Status::NOT_FOUND && found && (is("AuditMode") || is("DeployedMode")))
                .then_some(Rule::ModeVariables)
        }
        GET_NEXT => {
            let answers = [Status::SUCCESS, Status::BUFFER_TOO_SMALL, Status::NOT_FOUND];
            answers.contains(&now).then_some(Rule::Enumeration)
        }
        SET => {
            let deletes = u64_at(request, 56) == Some(0);
            let same = recorded[40..] == answered[40..];
            (deletes && same && then == Status::SUCCESS && now == Status::NOT_FOUND)
                .then_some(Rule::DeleteAbsent)
        }
        _ => None,
    }
}

/// An answer that differs from the recorded one.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Number of the call in its boot, from 1.
    pub call: usize,
    pub rule: Option<Rule>,
    pub request: Vec<u8>,
    pub recorded: Vec<u8>,
    pub answered: Vec<u8>,
}

/// What a replay came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub calls: usize,
    pub same: usize,
    pub differences: Vec<Difference>,
}

impl Report {
    /// Number of differences that a rule justifies.
    pub fn justified_by(&self, rule: Rule) -> usize {
        self.differences
            .iter()
            .filter(|difference| difference.rule == Some(rule))
            .count()
    }

    /// Differences that no rule justifies.
    pub fn unjustified(&self) -> impl Iterator<Item = &Difference> {
        self.differences
            .iter()
            .filter(|difference| difference.rule.is_none())
    }
}

/// Sends all calls of a recording through `call`, which answers in place.
///
/// # Errors
/// The first error of `call`.
pub fn replay<E>(
    steps: &[Step],
    mut call: impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<Report, E> {
    let mut report = Report::default();
    for step in steps {
        let Step::Call { request, reply } = step else {
            continue;
        };
        report.calls += 1;
        let mut buffer = request.clone();
        call(&mut buffer)?;
        if buffer == *reply {
            report.same += 1;
            continue;
        }
        report.differences.push(Difference {
            call: report.calls,
            rule: justify(request, reply, &buffer),
            request: request.clone(),
            recorded: reply.clone(),
            answered: buffer,
        });
    }
    Ok(report)
}
