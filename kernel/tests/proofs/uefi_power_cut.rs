//! A power cut while a guest sets UEFI variables ([`crate::power_cut`] says how the power
//! goes):
//! after the next boot each variable is as before the call under way or as after it, and
//! what was answered with success is there. Secure Boot variables and the mode that goes
//! with them change together.

use std::collections::BTreeMap;
use std::sync::Arc;

use svsm::block::memory::{Fault, MemoryDevice};
use svsm::block::{BlockDevice, BlockError};
use svsm::persistence::Volume;
use svsm::services::{Variables, uefi};

use crate::device::{Event, Overlay, Recorder, SECTOR};
use crate::power_cut::formatted_image;
use crate::replay::{ALL_SUBSETS, Effort, Replay, Subject, Tally, assert_none_violated};
use crate::report::{Random, amount, record};
use crate::state::open;
use crate::support::{formatted, key, pattern};

use uefivars::{Guid, guids};

/// Size of the image in bytes.
const IMAGE: usize = 512 << 10;

/// A namespace of ours.
const OURS: Guid = uefivars::guid!("5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");

const GET_VARIABLE: u64 = 1;
const GET_NEXT_VARIABLE_NAME: u64 = 2;
const SET_VARIABLE: u64 = 3;
const SUCCESS: u64 = 0;
const NOT_FOUND: u64 = 1 << 63 | 14;

/// Non-volatile, boot services, runtime; with authentication by time; added to the value.
const NV: u32 = 7;
const AUTHENTICATED: u32 = 0x27;
const APPEND: u32 = 0x40;

/// Of a name, with its zero.
const NAME_ROOM: usize = 1024;
const VALUE_ROOM: usize = 40_000;

/// A request of the guest: namespace, name, attributes, value.
type Request = (Guid, &'static str, u32, Vec<u8>);

/// Everything that a guest sees: namespace and name, attributes and value.
type Seen = BTreeMap<([u8; 16], Vec<u8>), (u32, Vec<u8>)>;

fn call(service: &mut dyn Variables, function: u64, fields: &mut [u8]) -> u64 {
    let mut body = [&function.to_le_bytes()[..], &[0; 8], fields].concat();
    service.communicate(&guids::MM_VARIABLE.to_bytes(), &mut body);
    fields.copy_from_slice(&body[16..]);
    u64::from_le_bytes(body[8..16].try_into().unwrap())
}

fn access(guid: &[u8; 16], name: &[u8], attributes: u32, size: usize) -> Vec<u8> {
    [
        &guid[..],
        &(size as u64).to_le_bytes(),
        &(name.len() as u64).to_le_bytes(),
        &attributes.to_le_bytes(),
        name,
    ]
    .concat()
}

fn set(service: &mut dyn Variables, (guid, name, attributes, data): &Request) -> u64 {
    let units = name.encode_utf16().chain([0]);
    let name: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    let mut fields = access(&guid.to_bytes(), &name, *attributes, data.len());
    fields.extend(data);
    call(service, SET_VARIABLE, &mut fields)
}

/// All variables, by enumeration.
fn look(service: &mut dyn Variables) -> Seen {
    let mut seen = Seen::new();
    let mut next = [
        &[0; 16][..],
        &(NAME_ROOM as u64).to_le_bytes(),
        &[0; NAME_ROOM],
    ]
    .concat();
    loop {
        next[16..24].copy_from_slice(&(NAME_ROOM as u64).to_le_bytes());
        match call(service, GET_NEXT_VARIABLE_NAME, &mut next) {
            SUCCESS => {}
            NOT_FOUND => return seen,
            status => panic!("GetNextVariableName answers {status:#x}"),
        }
        let guid: [u8; 16] = next[..16].try_into().unwrap();
        let size = u64::from_le_bytes(next[16..24].try_into().unwrap()) as usize;
        let name = next[24..24 + size].to_vec();
        let mut get = access(&guid, &name, 0, VALUE_ROOM);
        get.resize(get.len() + VALUE_ROOM, 0);
        assert_eq!(call(service, GET_VARIABLE, &mut get), SUCCESS);
        let size = u64::from_le_bytes(get[16..24].try_into().unwrap()) as usize;
        let attributes = u32::from_le_bytes(get[32..36].try_into().unwrap());
        let value = get[36 + name.len()..][..size].to_vec();
        assert!(seen.insert((guid, name), (attributes, value)).is_none());
    }
}

fn start(device: &Arc<dyn BlockDevice>) -> Result<Box<dyn Variables>, String> {
    let volume = open(device).ok_or("the volume does not open")?;
    let volume: Arc<dyn Volume> = Arc::new(volume);
    uefi::start(Some(volume), &[]).map_err(|error| error.to_string())
}

/// The service on the volume.
struct Service;

impl Subject for Service {
    type State = Seen;

    fn boot(&self, device: &Arc<dyn BlockDevice>, allowed: &[&Seen]) -> Result<usize, String> {
        let seen = look(&mut *start(device)?);
        let found = allowed.iter().position(|state| **state == seen);
        Ok(found.ok_or("neither the old nor the new variables")?)
    }

    fn go_on(
        &self,
        device: &Arc<dyn BlockDevice>,
        seen: &Seen,
        random: &mut Random,
    ) -> Result<(), String> {
        let mut service = start(device)?;
        let value = pattern(random.next(), 1 + random.below(3000));
        let status = set(&mut *service, &(OURS, "After", NV, value));
        if status != SUCCESS {
            return Err(format!("SetVariable answers {status:#x}"));
        }
        let after = look(&mut *service);
        drop(service);
        if after == *seen {
            return Err("it is not even there now".into());
        }
        self.boot(device, &[&after]).map(drop)
    }
}

/// A payload that another tool has signed.
macro_rules! signed {
    ($file:literal) => {
        include_bytes!(concat!("../../../uefivars/tests/vectors/", $file)).to_vec()
    };
}

/// What the guest does: variables of its own, created, overwritten with more and with less,
/// added to and deleted in both ways; then keys, by way of audit and deployed mode and back.
fn workload(rounds: usize) -> Vec<Request> {
    let mut requests = Vec::new();
    let names = ["BootOrder", "Boot0001", "Large"];
    for round in 0..rounds {
        for (n, name) in names.into_iter().enumerate() {
            let guid = if n == 2 { OURS } else { guids::GLOBAL };
            let size = [2, 300, 6000][n] + 2 * round;
            let value = pattern((round * 3 + n) as u64, size);
            requests.push((guid, name, NV, value));
        }
        requests.push((OURS, "Large", NV, pattern(round as u64, 20)));
        requests.push((guids::GLOBAL, "BootOrder", NV | APPEND, vec![3, 0]));
        let forms = [0, NV];
        requests.push((guids::GLOBAL, "Boot0001", forms[round % 2], Vec::new()));
    }
    let keys = guids::IMAGE_SECURITY_DATABASE;
    requests.extend([
        (guids::GLOBAL, "AuditMode", 6, vec![1]),
        (guids::GLOBAL, "KEK", AUTHENTICATED, signed!("kek.auth")),
        (guids::GLOBAL, "PK", AUTHENTICATED, signed!("pk-self.auth")),
        (keys, "db", AUTHENTICATED, signed!("db.auth")),
        (keys, "db", AUTHENTICATED, signed!("db-later.auth")),
        (
            guids::GLOBAL,
            "PK",
            AUTHENTICATED,
            signed!("pk-delete.auth"),
        ),
        (guids::GLOBAL, "PK", AUTHENTICATED, signed!("pk-self.auth")),
    ]);
    requests
}

/// The events of `requests` on a device that begins with `image`, and what the guest sees
/// before the first and after each of them.
fn recorded(image: &Arc<[u8]>, requests: &[Request]) -> (Vec<Event>, Vec<Seen>) {
    let device = Arc::new(Recorder::new(Overlay::new(image)));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    let mut service = start(&as_device).expect("starts");
    let mut states = vec![look(&mut *service)];
    for request in requests {
        device.mark(Event::Started);
        let status = set(&mut *service, request);
        device.mark(Event::Acknowledged);
        assert_eq!(status, SUCCESS, "{} {:#x}", request.1, request.2);
        states.push(look(&mut *service));
        let changed = states[states.len() - 2] != states[states.len() - 1];
        assert!(changed, "{} changes nothing", request.1);
    }
    // Whatever is put off until the next operation.
    drop(start(&as_device).expect("starts again"));
    (device.take(), states)
}

fn cut_up(image: Arc<[u8]>, events: Vec<Event>, states: &[Seen], effort: Effort) -> Tally {
    let mut replay = Replay {
        subject: &Service,
        image,
        states,
        effort,
        random: Random::new(11),
        tally: Tally::default(),
    };
    replay.run(events);
    replay.tally
}

#[test]
fn after_a_power_cut_each_variable_is_old_or_new() {
    let image = formatted_image(IMAGE);
    let (events, states) = recorded(&image, &workload(amount(1, 4)));
    let effort = Effort {
        prefix_step: amount(9, 1),
        subsets: amount(2, 1 << ALL_SUBSETS),
        torn_subsets: amount(1, 64),
        second_step: amount(61, 97),
    };
    let tally = cut_up(image, events, &states, effort);
    // The second number is the one that must be 0.
    record(&[
        ("uefi.powercut.points", tally.points),
        ("uefi.powercut.torn", tally.violations.len() as u64),
        ("uefi.powercut.second_cuts", tally.second_cuts),
        ("uefi.powercut.writes_after", tally.transactions_after),
    ]);
    assert_none_violated(&tally);
    assert!(tally.transactions_after > 0);
    assert!(tally.points >= amount(300, 20_000), "{}", tally.points);
}

#[test]
fn a_service_that_answers_before_it_stores_is_noticed_by_this_test() {
    // The check can fail: with the acknowledgement before the writes, it must.
    let image = formatted_image(IMAGE);
    let (mut events, states) = recorded(&image, &workload(1)[..1]);
    let acknowledged = events
        .iter()
        .position(|event| matches!(event, Event::Acknowledged))
        .expect("it was");
    let event = events.remove(acknowledged);
    let started = events
        .iter()
        .position(|event| matches!(event, Event::Started))
        .expect("it was");
    events.insert(started + 1, event);
    let effort = Effort {
        prefix_step: 5,
        subsets: 2,
        torn_subsets: 0,
        second_step: usize::MAX,
    };
    let tally = cut_up(image, events, &states, effort);
    assert!(!tally.violations.is_empty());
}

/// The value of `A`, as a boot of what is on the device finds it.
fn value_of_a(device: &MemoryDevice) -> Vec<u8> {
    let again: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::from_bytes(device.snapshot(), SECTOR));
    let seen = look(&mut *start(&again).expect("starts"));
    let value = seen
        .into_iter()
        .find(|((guid, _), _)| *guid == OURS.to_bytes());
    value.expect("it was never deleted").1.1
}

#[test]
fn a_device_that_dies_under_a_call_makes_no_later_answer_a_lie() {
    let new = (OURS, "A", NV, b"new".to_vec());
    let old = (OURS, "A", NV, b"old".to_vec());
    let (mut taken_effect, mut failed) = (0, 0);
    for request in 0.. {
        let device = formatted(&key());
        let as_device: Arc<dyn BlockDevice> = Arc::new(device.clone());
        let mut service = start(&as_device).expect("starts");
        assert_eq!(set(&mut *service, &old), SUCCESS);
        device.reset_counters();
        device.fail(Fault::From(request, BlockError::Io));
        let first = set(&mut *service, &new);
        let reached_end = device.counters().requests() <= request;
        let after_first = value_of_a(&device);
        assert!(first != SUCCESS || after_first == b"new", "{request}");
        failed += u32::from(first != SUCCESS);
        taken_effect += u32::from(first != SUCCESS && after_first == b"new");
        // Memory has the old value still, and the disk perhaps not.
        let second = set(&mut *service, &old);
        assert!(
            second != SUCCESS || value_of_a(&device) == b"old",
            "{request}"
        );
        // The device is back.
        device.fail(Fault::Never);
        assert_eq!(set(&mut *service, &old), SUCCESS, "{request}");
        assert_eq!(value_of_a(&device), b"old", "{request}");
        if reached_end {
            break;
        }
    }
    assert!(failed > 0 && taken_effect > 0, "{taken_effect} of {failed}");
}
