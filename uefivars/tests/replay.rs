//! Two boots of OVMF and Linux, recorded with QEMU, answered by this service.
//!
//! Every answer is the recorded one, byte for byte, or differs by one of the rules in
//! [`Rule`]; the number of each is fixed here. What a rule lets pass is checked by other
//! means: the enumeration against a model that follows the recorded requests.

mod common;

use std::collections::BTreeMap;

use uefivars::host::replay::{Report, Rule, Step, read, replay};
use uefivars::memory::Memory;
use uefivars::{Config, Guid, Service, Status, guids};

const BOOT_1: &[u8] = include_bytes!("data/fedora-boot-1.pcap.gz");
const BOOT_2: &[u8] = include_bytes!("data/fedora-boot-2.pcap.gz");
const JSON_1: &str = include_str!("data/fedora-boot-1.json");
const JSON_2: &str = include_str!("data/fedora-boot-2.json");

type Key = (Guid, Vec<u8>);

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// The order of creation, and which variables are seen at run time.
struct Model {
    variables: Vec<(Key, u32)>,
    runtime: bool,
}

impl Model {
    fn of(service: &Service<Memory>) -> Self {
        let variables = service
            .variables()
            .map(|variable| {
                let name = variable.key.name.le_bytes().chain([0, 0]).collect();
                ((variable.key.guid, name), variable.attributes.0)
            })
            .collect();
        Self {
            variables,
            runtime: false,
        }
    }

    /// Follows one call, and checks what was answered where it was an enumeration.
    fn follow(&mut self, request: &[u8], reply: &[u8]) {
        if request[..16] == guids::EVENT_EXIT_BOOT_SERVICES.to_bytes() {
            self.runtime = true;
        }
        if request[..16] != guids::MM_VARIABLE.to_bytes() {
            return;
        }
        let guid = |bytes: &[u8]| Guid::from_bytes(bytes[40..56].try_into().unwrap());
        match (u64_at(request, 24), Status(u64_at(reply, 32))) {
            (3, Status::SUCCESS) => {
                let name = request[76..][..u64_at(request, 64) as usize].to_vec();
                let key = (guid(request), name);
                let attributes = u32::from_le_bytes(request[72..76].try_into().unwrap());
                let place = self.variables.iter().position(|(known, _)| *known == key);
                match (place, u64_at(request, 56)) {
                    (Some(place), 0) => drop(self.variables.remove(place)),
                    (None, 0) => panic!("deleted what is not there"),
                    (Some(_), _) => {}
                    (None, _) => self.variables.push((key, attributes)),
                }
            }
            (2, status) => self.check_next(request, reply, guid, status),
            (6, _) => self.runtime = true,
            _ => {}
        }
    }

    fn check_next(
        &self,
        request: &[u8],
        reply: &[u8],
        guid: impl Fn(&[u8]) -> Guid,
        status: Status,
    ) {
        let room = u64_at(request, 56) as usize;
        let end = request[64..]
            .chunks(2)
            .position(|unit| unit == [0, 0])
            .unwrap()
            * 2
            + 2;
        let key = (guid(request), request[64..64 + end].to_vec());
        let start = match end {
            2 => 0,
            _ => {
                1 + self
                    .variables
                    .iter()
                    .position(|(known, _)| *known == key)
                    .unwrap()
            }
        };
        let next = self.variables[start..]
            .iter()
            .find(|(_, attributes)| !self.runtime || attributes & 4 != 0);
        let Some(((next_guid, name), _)) = next else {
            assert_eq!(status, Status::NOT_FOUND);
            return;
        };
        assert_eq!(guid(reply), *next_guid);
        assert_eq!(u64_at(reply, 56) as usize, name.len());
        if name.len() > room {
            assert_eq!(status, Status::BUFFER_TOO_SMALL);
        } else {
            assert_eq!(status, Status::SUCCESS);
            assert_eq!(reply[64..64 + name.len()], name[..]);
        }
    }
}

fn boot(service: &mut Service<Memory>, recording: &[u8]) -> Report {
    let steps = read(recording).unwrap();
    assert_eq!(steps[0], Step::Reset);
    let mut model = Model::of(service);
    let report = replay(&steps, |buffer| {
        let request = buffer.to_vec();
        service.communicate_buffer(buffer).map(drop)?;
        model.follow(&request, buffer);
        Ok::<_, uefivars::mm::BufferError>(())
    })
    .unwrap();
    for difference in report.unjustified() {
        println!("call {}", difference.call);
        println!("  request  {:02x?}", &difference.request[24..]);
        println!("  recorded {:02x?}", &difference.recorded[24..]);
        println!("  answered {:02x?}", &difference.answered[24..]);
    }
    report
}

/// Number of answers by each rule.
fn rules(report: &Report) -> BTreeMap<Rule, usize> {
    let mut rules = BTreeMap::new();
    for difference in &report.differences {
        let rule = difference
            .rule
            .expect("a difference that no rule justifies");
        *rules.entry(rule).or_default() += 1;
    }
    rules
}

/// What is stored, as QEMU's store after the same boot has it. The two variables that
/// never change are not stored here.
fn assert_stored(service: &Service<Memory>, json: &str) {
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    let expected: BTreeMap<_, _> = json["variables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| {
            let text = |field: &str| variable[field].as_str().unwrap().to_owned();
            let attributes = variable["attr"].as_u64().unwrap() as u32;
            ((text("guid"), text("name")), (attributes, text("data")))
        })
        .filter(|((_, name), _)| !["CustomMode", "VendorKeysNv"].contains(&name.as_str()))
        .collect();
    let records = service.storage().records();
    let stored: BTreeMap<_, _> = records
        .values()
        .map(|record| {
            let variable = uefivars::record::decode(record).unwrap();
            let key = (variable.key.guid.to_string(), variable.key.name.to_string());
            (key, (variable.attributes.0, hex::encode(&variable.data)))
        })
        .collect();
    assert_eq!(stored, expected);
    assert_eq!(records.len(), expected.len());
}

#[test]
fn recorded_boots_are_answered_as_qemu_answered_them() {
    let mut service = Service::new(Memory::default(), Config::default()).unwrap();
    let first = boot(&mut service, BOOT_1);
    assert_eq!(
        (first.calls, first.same + first.differences.len()),
        (905, 905)
    );
    assert_eq!(
        rules(&first).into_iter().collect::<Vec<_>>(),
        [
            (Rule::PayloadSize, 1),
            (Rule::StorageInfo, 1),
            (Rule::Enumeration, 57),
            (Rule::DeleteAbsent, 4),
            (Rule::ModeVariables, 2),
        ]
    );
    assert_stored(&service, JSON_1);
    // 78 calls ask for a change of what is stored; 59 of them change something.
    assert_eq!(service.storage().commits, 59);
    assert!(service.storage().bytes <= 30 * 1024);

    let disk = service.into_storage().power_cycle();
    let mut service = Service::new(disk, Config::default()).unwrap();
    let second = boot(&mut service, BOOT_2);
    assert_eq!(
        (second.calls, second.same + second.differences.len()),
        (953, 953)
    );
    assert_eq!(
        rules(&second).into_iter().collect::<Vec<_>>(),
        [
            (Rule::PayloadSize, 1),
            (Rule::Enumeration, 85),
            (Rule::DeleteAbsent, 4),
            (Rule::ModeVariables, 2),
        ]
    );
    assert_stored(&service, JSON_2);
    assert_eq!(service.storage().commits, 23);
    assert!(service.storage().bytes <= 11 * 1024);
}

#[test]
fn a_wrong_answer_is_not_justified() {
    let steps = read(BOOT_1).unwrap();
    let mut service = Service::new(Memory::default(), Config::default()).unwrap();
    let report = replay(&steps, |buffer| {
        service.communicate_buffer(buffer).map(drop)?;
        // A bit of each status.
        if let Some(byte) = buffer.get_mut(33) {
            *byte ^= 1;
        }
        Ok::<_, uefivars::mm::BufferError>(())
    })
    .unwrap();
    assert!(report.unjustified().count() > 890);
}
