//! The engine in this process, and the reference behind its sockets.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vtpm::{
    Tpm,
    crypto::{HashAlg, KdfRng, Native},
    environment::{Environment, RandomError},
    storage::Memory,
};

use crate::step::{Before, ENGINE, Pair, REFERENCE, Step};

/// How long the reference may take to start or to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Reproducible random bytes; real time, since the reference has it too.
struct Surroundings(KdfRng, Instant);

impl Environment for Surroundings {
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        self.0.generate(out);
        Ok(())
    }
    fn now_ms(&mut self) -> u64 {
        self.1.elapsed().as_millis() as u64
    }
}

/// A response.
pub struct Response(pub Vec<u8>);

impl Response {
    pub fn code(&self) -> u32 {
        self.0
            .get(6..10)
            .and_then(|b| b.try_into().ok())
            .map_or(u32::MAX, u32::from_be_bytes)
    }

    /// The handle, when the command answers with one.
    pub fn handle(&self, command: u32) -> Option<u32> {
        let has = matches!(
            command,
            0x131 | 0x157 | 0x15B | 0x161 | 0x167 | 0x176 | 0x186 | 0x191
        );
        let bytes = self.0.get(10..14).filter(|_| has && self.code() == 0)?;
        bytes.try_into().ok().map(u32::from_be_bytes)
    }

    /// The parameters, without handle and sessions.
    pub fn parameters(&self, command: u32) -> &[u8] {
        let start = if self.handle(command).is_some() {
            14
        } else {
            10
        };
        let rest = self.0.get(start..).unwrap_or_default();
        if self.code() != 0 || self.tag() != 0x8002 {
            return rest;
        }
        let Some((size, rest)) = rest.split_first_chunk() else {
            return &[];
        };
        rest.get(..u32::from_be_bytes(*size) as usize)
            .unwrap_or_default()
    }

    /// The tag of the header.
    pub fn tag(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// What follows the parameters: nonces and HMACs.
    pub fn sessions(&self, command: u32) -> &[u8] {
        if self.code() != 0 || self.tag() != 0x8002 {
            return &[];
        }
        let start = if self.handle(command).is_some() {
            18
        } else {
            14
        };
        self.0
            .get(start + self.parameters(command).len()..)
            .unwrap_or_default()
    }
}

/// One command and both answers.
pub struct Exchange {
    pub sent: Pair<Vec<u8>>,
    pub actual: Response,
    pub expected: Response,
    pub past: Past,
}

/// What rules need to know of what went before.
#[derive(Clone, Copy, Default)]
pub struct Past {
    /// The TPM was locked out, or counted no failures, when the power was last lost.
    pub started_locked: bool,
    /// Since the last shutdown a commitment or ephemeral key was made, or commands are audited.
    pub must_not_be_undone: bool,
    /// Since the last shutdown a commitment was made, or may have been used.
    pub committed: bool,
    /// There was what must not be undone at a startup, and made the clock unsafe.
    pub taken_back: bool,
    audits: bool,
    /// There was a clear.
    pub cleared: bool,
}

impl Exchange {
    /// The command code that was sent, which damage may have changed.
    pub fn code(&self) -> u32 {
        let sent = self.sent[ENGINE].get(6..10);
        sent.and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u32::from_be_bytes)
    }

    /// Whether one side did what the other did not.
    pub fn diverged(&self) -> bool {
        (self.actual.code() == 0) != (self.expected.code() == 0)
    }

    pub fn describe(&self) -> String {
        let short = |bytes: &[u8]| {
            let text = hex::encode(bytes);
            if text.len() > 3000 {
                format!("{}...", &text[..3000])
            } else {
                text
            }
        };
        format!(
            "command {}\n    engine {}\n    reference {}",
            short(&self.sent[ENGINE]),
            short(&self.actual.0),
            short(&self.expected.0)
        )
    }
}

/// Fails unless `reference` is swtpm itself: this project's server may bear its name.
pub fn check_reference(reference: &str) -> io::Result<()> {
    let output = Command::new(reference).arg("--version").output()?;
    if String::from_utf8_lossy(&output.stdout).contains("TPM emulator version") {
        Ok(())
    } else {
        Err(io::Error::other(format!("{reference} is not swtpm")))
    }
}

/// Both TPMs, fresh.
pub struct Sides {
    engine: Tpm,
    process: Child,
    data: UnixStream,
    control: UnixStream,
    locality: u8,
    past: Past,
    _state: TempDir,
}

impl Sides {
    pub fn start(reference: &str) -> io::Result<Self> {
        let state = tempfile::tempdir()?;
        let path = |name: &str| state.path().join(name).display().to_string();
        let process = Command::new(reference)
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--server", &format!("type=unixio,path={}", path("data"))])
            .args(["--ctrl", &format!("type=unixio,path={}", path("control"))])
            .args(["--tpmstate", &format!("dir={}", state.path().display())])
            .args(["--log", "file=-"])
            .stdout(Stdio::null())
            .spawn()?;
        let start = Instant::now();
        let connect = |name: &str| loop {
            match UnixStream::connect(path(name)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(LIMIT))?;
                    return Ok(stream);
                }
                Err(error) if start.elapsed() > LIMIT => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let (control, data) = (connect("control")?, connect("data")?);
        let surroundings = Surroundings(
            KdfRng::new(HashAlg::Sha256, b"diff", "diff", &[]),
            Instant::now(),
        );
        let (engine, _) = Tpm::power_on(Box::new(surroundings), Box::new(Memory::new()), &Native)
            .map_err(io::Error::other)?;
        let mut sides = Self {
            engine,
            process,
            data,
            control,
            locality: 0,
            past: Past::default(),
            _state: state,
        };
        let mut response = Vec::new();
        sides.engine.execute(
            0,
            &[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0],
            &mut response,
        );
        Ok(sides)
    }

    fn control(&mut self, request: &[u8]) -> io::Result<()> {
        self.control.write_all(request)?;
        let mut answer = [0; 4];
        self.control.read_exact(&mut answer)?;
        if answer == [0; 4] {
            Ok(())
        } else {
            Err(io::Error::other("the reference refused a control request"))
        }
    }

    fn before(&mut self, step: &Step) -> io::Result<()> {
        match &step.before {
            Before::Nothing => Ok(()),
            Before::PowerCycle => {
                if let Some([failures, limit, interval]) = self.dictionary()? {
                    self.past.started_locked = failures >= limit || interval == 0;
                }
                self.control(&[0, 0, 0, 2, 0, 0, 0, 1])?;
                self.engine.power_cycle().map_err(io::Error::other)
            }
            Before::Measure(data) => {
                self.locality(4)?;
                self.control(&[0, 0, 0, 6])?;
                let size = data.len() as u32;
                self.control(&[&[0, 0, 0, 7][..], &size.to_be_bytes(), data].concat())?;
                self.control(&[0, 0, 0, 8])?;
                self.engine.hash_start();
                self.engine.hash_data(data);
                self.engine.hash_end();
                Ok(())
            }
        }
    }

    /// TPM_PT_LOCKOUT_COUNTER, MAX_AUTH_FAIL and LOCKOUT_INTERVAL of the reference, when it is
    /// started. Both are asked, since the question may be audited.
    fn dictionary(&mut self) -> io::Result<Option<[u32; 3]>> {
        const PROPERTIES: [u8; 22] = [
            0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A, 0, 0, 0, 6, 0, 0, 2, 0x0E, 0, 0, 0, 3,
        ];
        self.engine
            .execute(self.locality, &PROPERTIES, &mut Vec::new());
        let response = self.ask_reference(&PROPERTIES)?;
        let number = |at: usize| {
            let bytes = response.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let three = || Some([number(23)?, number(31)?, number(39)?]);
        Ok(three())
    }

    fn ask_reference(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.data.write_all(command)?;
        let mut response = vec![0; 10];
        self.data.read_exact(&mut response)?;
        let size =
            u32::from_be_bytes([response[2], response[3], response[4], response[5]]) as usize;
        response.resize(size.clamp(10, 4096), 0);
        self.data.read_exact(&mut response[10..])?;
        Ok(response)
    }

    fn locality(&mut self, locality: u8) -> io::Result<()> {
        if locality != self.locality {
            self.control(&[0, 0, 0, 5, locality])?;
            self.locality = locality;
        }
        Ok(())
    }

    /// Runs a step on both; nothing when it cannot be put to both alike.
    pub fn exchange(&mut self, step: &Step) -> io::Result<Option<Exchange>> {
        let sent = [step.build(ENGINE), step.build(REFERENCE)];
        let broken = step.damage.is_some() || step.mutation.is_some();
        if sent[ENGINE].len() > 4096 || (broken && sent[ENGINE].len() != sent[REFERENCE].len()) {
            return Ok(None);
        }
        self.before(step)?;
        self.locality(step.locality)?;
        let mut response = Vec::new();
        self.engine
            .execute(step.locality, &sent[ENGINE], &mut response);
        let expected = self.ask_reference(&sent[REFERENCE])?;
        let exchange = Exchange {
            sent,
            actual: Response(response),
            expected: Response(expected),
            past: self.past,
        };
        if exchange.actual.code() == 0 {
            match exchange.code() {
                0x126 => self.past.cleared = true,
                0x140 => self.past.audits = true,
                0x144 => self.past.taken_back |= self.past.must_not_be_undone,
                0x145 => {
                    self.past.must_not_be_undone = self.past.audits;
                    self.past.committed = false;
                }
                // Commit, EC_Ephemeral, ZGen_2Phase, Sign
                0x18B | 0x18E | 0x18D | 0x15D => {
                    self.past.must_not_be_undone = true;
                    self.past.committed = true;
                }
                _ => {}
            }
        }
        Ok(Some(exchange))
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        // It holds nothing that is worth a clean end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
