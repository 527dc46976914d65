//! Device requests and bytes of each command that writes.

use crate::client::{Authorized, blob, code, command};
use crate::machine::{Asked, Machine};

const OWNER: Authorized<'static> = (0x4000_0001, b"");
const LOCKOUT: Authorized<'static> = (0x4000_000A, b"");
const PLATFORM: Authorized<'static> = (0x4000_000C, b"");
const PERSISTENT: u32 = 0x8100_0001;

// Indices of every kind, one to lock, one whose value is guessed.
const DATA: u32 = 0x0150_0000;
const COUNTER: u32 = 0x0150_0001;
const BITS: u32 = 0x0150_0002;
const EXTEND: u32 = 0x0150_0003;
const LOCKED: u32 = 0x0150_0004;
const GUESSED: u32 = 0x0150_0005;

/// Owner and authorization value may read and write.
const RIGHTS: u32 = 0x0006_0006;
/// No dictionary attack protection.
const NO_DA: u32 = 0x0200_0000;

/// Times that a command is repeated; the most expensive one stands for all.
const ROUNDS: u8 = 8;

/// `TPM_RC_RETRY`, `TPM_RC_AUTH_FAIL` about the first session.
const RETRY: u32 = 0x922;
const AUTH_FAIL: u32 = 0x98E;

struct Costs {
    machine: Option<Machine>,
    /// By command, in the order of their first use.
    all: Vec<(&'static str, Asked)>,
}

impl Costs {
    fn run(&mut self, name: &'static str, expected: u32, command: &[u8]) {
        let machine = self.machine.as_mut().expect("it is on");
        let (response, asked) = machine.run(command);
        assert_eq!(code(&response), expected, "{name}");
        match self.all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, most)) if asked.all.requests() > most.all.requests() => *most = asked,
            Some(_) => {}
            None => self.all.push((name, asked)),
        }
    }

    fn reboot(&mut self) {
        self.machine = self.machine.take().map(Machine::reboot);
    }

    fn startup(&mut self, kind: u16) {
        let name = ["startup_clear", "startup_state"][usize::from(kind)];
        self.run(name, 0, &command(0x144, &[], &[], &kind.to_be_bytes()));
    }

    fn shutdown(&mut self, kind: u16) {
        let name = ["shutdown_clear", "shutdown_state"][usize::from(kind)];
        self.run(name, 0, &command(0x145, &[], &[], &kind.to_be_bytes()));
    }

    fn define(&mut self, index: u32, attributes: u32, size: u16) {
        let public = [
            &index.to_be_bytes()[..],
            &[0, 0x0B],
            &attributes.to_be_bytes(),
            &[0, 0],
            &size.to_be_bytes(),
        ]
        .concat();
        let parameters = [blob(b""), blob(&public)].concat();
        self.run(
            "nv_define_space",
            0,
            &command(0x12A, &[OWNER], &[], &parameters),
        );
    }

    fn indices(&mut self) {
        let kind = |kind: u32| RIGHTS | NO_DA | kind << 4;
        // WRITEDEFINE, READ_STCLEAR
        let lockable = RIGHTS | NO_DA | 1 << 13 | 1 << 31;
        for (index, attributes, size) in [
            (DATA, kind(0), 32),
            (COUNTER, kind(1), 8),
            (BITS, kind(2), 8),
            (EXTEND, kind(4), 32),
            (LOCKED, lockable, 32),
            (GUESSED, RIGHTS, 32),
        ] {
            self.define(index, attributes, size);
        }
        let write = |index, byte| {
            let parameters = [blob(&[byte; 32]), vec![0, 0]].concat();
            command(0x137, &[OWNER], &[index], &parameters)
        };
        for index in [DATA, LOCKED, GUESSED] {
            self.run("nv_write_first", 0, &write(index, 0));
        }
        for round in 0..ROUNDS {
            self.run("nv_write", 0, &write(DATA, round));
            self.run(
                "nv_increment",
                0,
                &command(0x134, &[OWNER], &[COUNTER], &[]),
            );
            let bits = (1u64 << round).to_be_bytes();
            self.run("nv_set_bits", 0, &command(0x135, &[OWNER], &[BITS], &bits));
            let more = blob(&[round; 20]);
            self.run("nv_extend", 0, &command(0x136, &[OWNER], &[EXTEND], &more));
        }
        self.run(
            "nv_write_lock",
            0,
            &command(0x138, &[OWNER], &[LOCKED], &[]),
        );
        self.run("nv_read_lock", 0, &command(0x14F, &[OWNER], &[LOCKED], &[]));
        self.run(
            "nv_undefine_space",
            0,
            &command(0x122, &[OWNER], &[LOCKED], &[]),
        );
    }

    fn persistent_object(&mut self) {
        // An ECC storage key; AES-128 in CFB, P-256.
        let public = [
            &[0, 0x23, 0, 0x0B, 0, 3, 4, 0x72, 0, 0][..],
            &[0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0],
        ]
        .concat();
        let parameters = [blob(&[0; 4]), blob(&public), vec![0; 6]].concat();
        self.run(
            "create_primary",
            0,
            &command(0x131, &[OWNER], &[], &parameters),
        );
        for object in [0x8000_0000, PERSISTENT] {
            let parameters = PERSISTENT.to_be_bytes();
            self.run(
                "evict_control",
                0,
                &command(0x120, &[OWNER], &[object], &parameters),
            );
        }
    }

    fn hierarchies(&mut self) {
        for (old, new) in [(&b""[..], &b"secret"[..]), (b"secret", b"")] {
            self.run(
                "hierarchy_change_auth",
                0,
                &command(0x129, &[(OWNER.0, old)], &[], &blob(new)),
            );
        }
        let none = [blob(b""), vec![0, 0x10]].concat();
        let policy = [blob(&[7; 32]), vec![0, 0x0B]].concat();
        for policy in [policy, none] {
            self.run(
                "set_primary_policy",
                0,
                &command(0x12E, &[OWNER], &[], &policy),
            );
        }
        for disable in [1, 0] {
            self.run(
                "clear_control",
                0,
                &command(0x127, &[PLATFORM], &[], &[disable]),
            );
        }
        let hash_sha256 = [0, 0x0B];
        let audit = [&hash_sha256[..], &[0, 0, 0, 0], &[0, 0, 0, 0]].concat();
        self.run(
            "set_command_code_audit_status",
            0,
            &command(0x140, &[OWNER], &[], &audit),
        );
        let without_sha384 = [0, 0, 0, 1, 0, 0x0C, 3, 0, 0, 0];
        self.run(
            "pcr_allocate",
            0,
            &command(0x12B, &[PLATFORM], &[], &without_sha384),
        );
    }

    fn dictionary_attacks(&mut self) {
        let limits = [[0, 0, 0, 100], [0, 0, 3, 0xE8], [0, 0, 3, 0xE8]].concat();
        self.run(
            "dictionary_attack_parameters",
            0,
            &command(0x13A, &[LOCKOUT], &[], &limits),
        );
        let guess = command(0x14E, &[(GUESSED, b"guess")], &[GUESSED], &[0, 32, 0, 0]);
        self.run("da_first_use", RETRY, &guess);
        for _ in 0..ROUNDS {
            self.run("da_failure", AUTH_FAIL, &guess);
        }
        self.run(
            "dictionary_attack_lock_reset",
            0,
            &command(0x139, &[LOCKOUT], &[], &[]),
        );
    }
}

/// Measures all of them.
pub fn measure(report: &mut dyn FnMut(&str, u64)) {
    let mut costs = Costs {
        machine: Some(Machine::new()),
        all: Vec::new(),
    };
    costs.startup(0);
    costs.indices();
    costs.persistent_object();
    costs.hierarchies();
    costs.dictionary_attacks();
    for round in 0..ROUNDS {
        let extend = [&[0, 0, 0, 1, 0, 0x0B][..], &[round; 32]].concat();
        costs.run("pcr_extend", 0, &command(0x182, &[(16, b"")], &[], &extend));
    }
    // In this order: a changed allocation of PCRs permits no Shutdown(STATE).
    for kind in [0, 1] {
        costs.shutdown(kind);
        costs.reboot();
        costs.startup(kind);
    }
    costs.run("clear", 0, &command(0x126, &[LOCKOUT], &[], &[]));
    for (name, Asked { answered, all }) in &costs.all {
        report(&format!("tpm.{name}.requests"), all.requests());
        report(
            &format!("tpm.{name}.requests_before_answer"),
            answered.requests(),
        );
        report(&format!("tpm.{name}.bytes"), all.bytes_written);
    }
}
