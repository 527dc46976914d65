//! Round trip of single commands: this server beside swtpm, each a process of its own behind a
//! UNIX socket, one after the other in each round.
//!
//! ```text
//! cargo build --release -p vtpm --features server --bin vtpm-server --example tpm_latency
//! target/release/examples/tpm_latency [--server PATH] [--reference PATH] [--rounds N]
//! ```
//!
//! Prints medians in microseconds and their ratio, `tpm.COMMAND.ratio_vs_swtpm`. The state of
//! both is in memory (`/dev/shm`), since swtpm answers before a disk has it: what is compared
//! is then the same. `tpm.nv_write_on_disk` says what the difference is worth; this server
//! syncs there.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

const OWNER: [u8; 4] = [0x40, 0, 0, 1];
const NULL: [u8; 4] = [0x40, 0, 0, 7];
const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0];
/// Public areas (TPM2B_PUBLIC): storage keys, a signing key, sealed data.
const RSA_STORAGE: &[u8] = &[
    0, 26, 0, 1, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 0,
    0,
];
const ECC_STORAGE: &[u8] = &[
    0, 26, 0, 0x23, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0,
    0, 0, 0,
];
const ECC_SIGNING: &[u8] = &[
    0, 24, 0, 0x23, 0, 0x0B, 0, 4, 4, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10, 0, 0,
    0, 0,
];
const RSA_SIGNING: &[u8] = &[
    0, 24, 0, 1, 0, 0x0B, 0, 4, 4, 0x72, 0, 0, 0, 0x10, 0, 0x14, 0, 0x0B, 8, 0, 0, 0, 0, 0, 0, 0,
];
const SEALED: &[u8] = &[0, 14, 0, 8, 0, 0x0B, 0, 0, 4, 0x52, 0, 0, 0, 0x10, 0, 0];

struct Client(UnixStream);

impl Client {
    fn connect(path: &Path) -> io::Result<Self> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                    return Ok(Self(stream));
                }
                Err(error) if start.elapsed() > Duration::from_secs(20) => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Sends a command; its response after the header, and the time it took.
    fn run(&mut self, code: u16, body: &[u8], sessions: bool) -> io::Result<(Vec<u8>, Duration)> {
        let size = (10 + body.len()) as u32;
        let tag = if sessions { 2 } else { 1 };
        let command = [
            &[0x80, tag],
            &size.to_be_bytes()[..],
            &[0, 0],
            &code.to_be_bytes(),
            body,
        ]
        .concat();
        let start = Instant::now();
        self.0.write_all(&command)?;
        let mut header = [0; 10];
        self.0.read_exact(&mut header)?;
        let size = u32::from_be_bytes([header[2], header[3], header[4], header[5]]) as usize;
        let mut rest = vec![0; size.saturating_sub(10).min(4096)];
        self.0.read_exact(&mut rest)?;
        let elapsed = start.elapsed();
        let rc = u32::from_be_bytes([header[6], header[7], header[8], header[9]]);
        match rc {
            0 => Ok((rest, elapsed)),
            // The first use of an object that counts failures: asked again, as every client does.
            0x922 => self.run(code, body, sessions),
            _ => Err(io::Error::other(format!("command {code:#x} gave {rc:#x}"))),
        }
    }

    fn flush(&mut self, handle: &[u8]) -> io::Result<()> {
        self.run(0x165, handle, false).map(|_| ())
    }

    /// Makes an object persistent, and flushes it.
    fn persist(&mut self, object: [u8; 4]) -> io::Result<[u8; 4]> {
        const PERSISTENT: [u8; 4] = [0x81, 0, 0, 1];
        let body = [&OWNER[..], &object, &PASSWORD, &PERSISTENT].concat();
        self.run(0x120, &body, true)?;
        self.flush(&object)?;
        Ok(PERSISTENT)
    }

    fn primary(&mut self, public: &[u8]) -> io::Result<([u8; 4], Duration)> {
        let body = [&OWNER[..], &PASSWORD, &[0, 4, 0, 0, 0, 0], public, &[0; 6]].concat();
        let (answer, time) = self.run(0x131, &body, true)?;
        Ok((first(&answer), time))
    }
}

fn first(answer: &[u8]) -> [u8; 4] {
    answer.first_chunk().copied().unwrap_or_default()
}

/// What the measured commands need.
struct Prepared {
    client: Client,
    signer: [u8; 4],
    rsa_signer: [u8; 4],
    sealed: [u8; 4],
}

impl Prepared {
    fn signer(&self, command: &str) -> [u8; 4] {
        if command.ends_with("rsa") {
            self.rsa_signer
        } else {
            self.signer
        }
    }
}

fn prepare(mut client: Client) -> io::Result<Prepared> {
    let (parent, _) = client.primary(ECC_STORAGE)?;
    let sensitive = [&[0, 36, 0, 0, 0, 32][..], &[7; 32]].concat();
    let body = [&parent[..], &PASSWORD, &sensitive, SEALED, &[0; 6]].concat();
    let (created, _) = client.run(0x153, &body, true)?;
    // Behind the size of the parameters: private and public part.
    let blob = |at: usize| 2 + usize::from(u16::from_be_bytes([created[at], created[at + 1]]));
    let private = blob(4);
    let both = &created[4..4 + private + blob(4 + private)];
    let (loaded, _) = client.run(0x157, &[&parent[..], &PASSWORD, both].concat(), true)?;
    client.flush(&parent)?;
    let (signer, _) = client.primary(ECC_SIGNING)?;
    let (rsa_signer, _) = client.primary(RSA_SIGNING)?;
    // In the way of the keys that are made later: out of the three slots.
    let rsa_signer = client.persist(rsa_signer)?;
    let public = [&[0x01, 0x50, 0, 0, 0, 0x0B, 0, 6, 0, 6, 0, 0, 0, 32][..]].concat();
    let define = [
        &OWNER[..],
        &PASSWORD,
        &[0, 0, 0, public.len() as u8],
        &public,
    ]
    .concat();
    client.run(0x12A, &define, true)?;
    Ok(Prepared {
        client,
        signer,
        rsa_signer,
        sealed: first(&loaded),
    })
}

/// The commands, by the names they are printed with.
const COMMANDS: [&str; 11] = [
    "pcr_extend",
    "get_random",
    "start_auth_session",
    "create_primary_ecc",
    "create_primary_rsa",
    "sign",
    "sign_rsa",
    "quote",
    "quote_rsa",
    "nv_write",
    "unseal",
];

/// Those that take milliseconds.
const SLOW: [&str; 3] = ["create_primary_rsa", "sign_rsa", "quote_rsa"];

fn measure(tpm: &mut Prepared, command: &str, round: u8) -> io::Result<Duration> {
    let signer = tpm.signer(command);
    let client = &mut tpm.client;
    let digest = [round; 32];
    let null_ticket = [&[0x80, 0x24][..], &NULL, &[0, 0]].concat();
    match command {
        "pcr_extend" => {
            let body = [
                &[0, 0, 0, 16][..],
                &PASSWORD,
                &[0, 0, 0, 1, 0, 0x0B],
                &digest,
            ]
            .concat();
            client.run(0x182, &body, true).map(|found| found.1)
        }
        "get_random" => client.run(0x17B, &[0, 32], false).map(|found| found.1),
        "start_auth_session" => {
            let nonce = [&[0, 16][..], &digest[..16]].concat();
            let body = [&NULL[..], &NULL, &nonce, &[0, 0, 0, 0, 0x10, 0, 0x0B]].concat();
            let (answer, time) = client.run(0x176, &body, false)?;
            client.flush(&first(&answer))?;
            Ok(time)
        }
        "create_primary_ecc" | "create_primary_rsa" => {
            let mut public = if command.ends_with("rsa") {
                RSA_STORAGE
            } else {
                ECC_STORAGE
            }
            .to_vec();
            // Another unique part in every round, hence another key.
            public.truncate(public.len() - if command.ends_with("rsa") { 2 } else { 4 });
            public.extend_from_slice(&[0, 8, round, 1, 2, 3, 4, 5, 6, 7]);
            if command.ends_with("ecc") {
                public.extend_from_slice(&[0, 0]);
            }
            public[1] = (public.len() - 2) as u8;
            let (handle, time) = client.primary(&public)?;
            client.flush(&handle)?;
            Ok(time)
        }
        "sign" | "sign_rsa" => {
            let body = [
                &signer[..],
                &PASSWORD,
                &[0, 32],
                &digest,
                &[0, 0x10],
                &null_ticket,
            ]
            .concat();
            client.run(0x15D, &body, true).map(|found| found.1)
        }
        "quote" | "quote_rsa" => {
            let body = [
                &signer[..],
                &PASSWORD,
                &[0, 0, 0, 0x10],
                &[0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0, 0],
            ]
            .concat();
            client.run(0x158, &body, true).map(|found| found.1)
        }
        "nv_write" => {
            let body = [
                &OWNER[..],
                &[0x01, 0x50, 0, 0],
                &PASSWORD,
                &[0, 32],
                &digest,
                &[0, 0],
            ]
            .concat();
            client.run(0x137, &body, true).map(|found| found.1)
        }
        _ => client
            .run(0x15E, &[&tpm.sealed[..], &PASSWORD].concat(), true)
            .map(|found| found.1),
    }
}

/// A TPM server, ended with this.
struct Server {
    process: Child,
    place: TempDir,
}

impl Server {
    /// Starts `program` on an empty state below `place`.
    fn start(program: &str, place: &Path) -> io::Result<Self> {
        let place = tempfile::tempdir_in(place)?;
        let path = |name: &str| place.path().join(name).display().to_string();
        let process = Command::new(program)
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--server", &format!("type=unixio,path={}", path("data"))])
            .args(["--ctrl", &format!("type=unixio,path={}", path("control"))])
            .args(["--tpmstate", &format!("dir={}", place.path().display())])
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::other(format!("{program}: {error}")))?;
        Ok(Self { process, place })
    }

    fn prepared(&self) -> io::Result<Prepared> {
        prepare(Client::connect(&self.place.path().join("data"))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing that is worth a clean end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Arguments {
    server: String,
    reference: String,
    rounds: usize,
}

fn arguments() -> io::Result<Arguments> {
    let own = std::env::current_exe()?;
    // target/PROFILE/examples/tpm_latency
    let built = own.ancestors().nth(2).unwrap_or(&own);
    let mut found = Arguments {
        server: built.join("vtpm-server").display().to_string(),
        reference: "/usr/bin/swtpm".into(),
        rounds: 61,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| io::Error::other(format!("{word} needs a value")))?;
        match word.as_str() {
            "--server" => found.server = value,
            "--reference" => found.reference = value,
            "--rounds" => found.rounds = value.parse().map_err(io::Error::other)?,
            other => return Err(io::Error::other(format!("unknown argument {other}"))),
        }
    }
    Ok(found)
}

/// Measures one command and prints it as `name`.
fn compare(tpms: &mut [Prepared; 2], command: &str, name: &str, rounds: usize) -> io::Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for (times, tpm) in times.iter_mut().zip(&mut *tpms) {
            times.push(measure(tpm, command, round as u8)?);
        }
    }
    let [ours, theirs] = times.map(|mut times| {
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        median.as_secs_f64() * 1e6
    });
    println!("tpm.{name}.us {ours:.1}");
    println!("tpm.{name}.swtpm_us {theirs:.1}");
    println!("tpm.{name}.ratio_vs_swtpm {:.2}", ours / theirs);
    Ok(())
}

fn main() -> io::Result<()> {
    let Arguments {
        server,
        reference,
        rounds,
    } = arguments()?;
    for (place, commands, suffix) in [
        (Path::new("/dev/shm"), &COMMANDS[..], ""),
        (&std::env::temp_dir(), &["nv_write"][..], "_on_disk"),
    ] {
        let servers = [
            Server::start(&server, place)?,
            Server::start(&reference, place)?,
        ];
        let [ours, theirs] = &servers;
        let mut tpms = [ours.prepared()?, theirs.prepared()?];
        for &command in commands {
            // What takes microseconds needs more rounds than what takes milliseconds.
            let rounds = if SLOW.contains(&command) {
                rounds
            } else {
                10 * rounds
            };
            compare(&mut tpms, command, &format!("{command}{suffix}"), rounds)?;
        }
    }
    Ok(())
}
