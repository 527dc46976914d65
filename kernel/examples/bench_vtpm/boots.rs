//! What recorded boots ask of storage.

use serde_json::Value;

use crate::client::code;
use crate::machine::Machine;

/// The control request before the boot: power on.
const INIT: u64 = 2;

/// Runs each recording as a boot of its own, all on one disk. They hold nothing that differs
/// from TPM to TPM, so that their bytes serve as they are.
pub fn measure(streams: &[&str], report: &mut dyn FnMut(&str, u64)) {
    let mut machine = Machine::new();
    let (mut commits, mut requests, mut bytes) = (0, 0, 0);
    for path in streams {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let records = text.lines().map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{path}: {e}"))
        });
        let mut asked = (0, 0, 0);
        for record in records.skip_while(|record| record["ctrl"] != INIT) {
            let field = |name: &str| {
                let text = record[name].as_str().unwrap_or_default();
                hex::decode(text).unwrap_or_else(|e| panic!("{path}: {e}"))
            };
            let (command, expected) = (field("cmd"), field("rsp"));
            if command.is_empty() {
                continue;
            }
            let (response, cost) = machine.run(&command);
            // The reference answers a probe of the older version in its own way.
            if command.starts_with(&[0x80]) {
                assert_eq!(code(&response), code(&expected), "{path}: {record}");
            }
            asked.0 += u64::from(cost.all.bytes_written > 0);
            asked.1 += cost.all.requests();
            asked.2 += cost.all.bytes_written;
        }
        commits = commits.max(asked.0);
        requests = requests.max(asked.1);
        bytes = bytes.max(asked.2);
        machine = machine.reboot();
    }
    report("tpm.boot.nv_writes", commits);
    report("tpm.boot.requests", requests);
    report("tpm.boot.bytes", bytes);
}
