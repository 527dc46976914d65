//! Chooses the next command from what the TPMs hold by now: mostly right, sometimes wrong in
//! one place.

use vtpm::crypto::{HashAlg, hash};

use crate::{
    command::{Auth, Damage, ENGINE, Handle, Pair, Part, REFERENCE, Step, blob},
    random::Random,
    sides::Exchange,
    templates::{self, HASHES, Kind},
};

const OWNER: u32 = 0x4000_0001;
const NULL: u32 = 0x4000_0007;
const LOCKOUT: u32 = 0x4000_000A;
const ENDORSEMENT: u32 = 0x4000_000B;
const PLATFORM: u32 = 0x4000_000C;
const HIERARCHIES: &[u32] = &[OWNER, OWNER, NULL, ENDORSEMENT, PLATFORM];
const PASSWORDS: &[&[u8]] = &[b"", b"", b"secret", b"0123456789abcdef0123456789abcdef"];

#[derive(Clone)]
struct Object {
    handle: Handle,
    kind: Kind,
    auth: Vec<u8>,
    /// TPM2B_PUBLIC
    public: Pair<Vec<u8>>,
}

#[derive(Clone)]
struct Created {
    private: Pair<Vec<u8>>,
    public: Pair<Vec<u8>>,
    kind: Kind,
    auth: Vec<u8>,
}

#[derive(Clone)]
struct Session {
    handle: Pair<u32>,
    policy: bool,
    alg: HashAlg,
    nonce: Pair<Vec<u8>>,
}

#[derive(Clone)]
struct Nv {
    index: u32,
    size: u16,
    auth: Vec<u8>,
    attributes: u32,
    public: Vec<u8>,
}

/// What a success of the last step means.
#[derive(Clone)]
enum Pending {
    Nothing,
    Primary(Kind, Vec<u8>),
    Created(Kind, Vec<u8>),
    Loaded(Created),
    Session(bool, HashAlg),
    Flush(u32),
    Nv(Nv),
    NvWritten(u32),
    NvGone(u32),
    Saved,
    Persist(usize, u32),
    Sequence,
    SequenceOver,
    Restarted,
}

/// What is in both TPMs.
pub struct Generator {
    objects: Vec<Object>,
    persistent: Vec<Object>,
    created: Vec<Created>,
    sessions: Vec<Session>,
    nv: Vec<Nv>,
    contexts: Vec<Pair<Vec<u8>>>,
    sequences: Vec<Handle>,
    pending: Pending,
}

impl Generator {
    pub fn new() -> Self {
        Self {
            objects: Vec::new(),
            persistent: Vec::new(),
            created: Vec::new(),
            sessions: Vec::new(),
            nv: Vec::new(),
            contexts: Vec::new(),
            sequences: Vec::new(),
            pending: Pending::Nothing,
        }
    }

    /// The next step.
    pub fn next(&mut self, random: &mut Random) -> Step {
        self.pending = Pending::Nothing;
        let mut step = self.choose(random);
        if random.one_in(7) {
            step.damage = Some(match random.below(8) {
                0..4 => Damage::Flip(random.below(200), 1 << random.below(8)),
                4 => Damage::Shorten(1 + random.below(12)),
                5 => Damage::Lengthen(1 + random.below(6)),
                6 => Damage::Size(random.pick(&[0, 9, 10, 4097, 0xFFFF_FFFF])),
                _ => Damage::Tag(random.pick(&[0x8001, 0x8002, 0x00C1, 0])),
            });
        }
        if random.one_in(25) && !step.handles.is_empty() {
            let index = random.below(step.handles.len());
            let strange = [
                0,
                23,
                24,
                0x0100_0000,
                0x0200_0000,
                0x0300_0001,
                0x4000_0009,
                0x4000_0010,
                0x8000_0005,
                0x8100_0000,
                NULL,
                OWNER,
            ];
            step.handles[index] = Handle::fixed(random.pick(&strange));
        }
        if random.one_in(40) {
            step.locality = random.pick(&[0, 1, 2, 3]);
        }
        if step.damage.is_some() {
            self.pending = Pending::Nothing;
        }
        step
    }

    fn choose(&mut self, random: &mut Random) -> Step {
        // Few slots: make room before they are all taken.
        if self.objects.len() + self.sequences.len() >= 3 && random.one_in(2) {
            return self.flush_object(random);
        }
        if self.sessions.len() >= 3 && random.one_in(3) {
            return self.flush_session(random);
        }
        match random.below(130) {
            0..7 => self.create_primary(random),
            7..15 => self.create(random),
            15..23 => self.load(random),
            23..26 => self.load_external(random),
            26..29 => self.flush_object(random),
            29..35 => self.start_session(random),
            35..37 => self.flush_session(random),
            37..47 => self.policy(random),
            47..51 => self.nv_define(random),
            51..63 => self.nv_use(random),
            63..69 => self.pcr(random),
            69..77 => self.sign(random),
            77..82 => self.key_use(random),
            82..86 => self.attest(random),
            86..90 => self.hierarchy(random),
            90..94 => self.capability(random),
            94..98 => self.sequence(random),
            98..101 => self.context(random),
            101..104 => self.persist(random),
            104..107 => self.duplicate(random),
            107..109 => self.dictionary(random),
            109..115 => self.simple(random),
            115..117 => self.restart(random),
            117..120 => self.clock(random),
            _ => self.object_use(random),
        }
    }

    fn password(random: &mut Random, right: &[u8]) -> Auth {
        if random.one_in(25) {
            Auth::Password(b"wrong".to_vec())
        } else {
            Auth::Password(right.to_vec())
        }
    }

    /// Authorization with a known value: a password, or an HMAC session.
    fn auth(&self, random: &mut Random, right: &[u8]) -> Auth {
        let hmac: Vec<_> = self
            .sessions
            .iter()
            .filter(|session| !session.policy)
            .collect();
        if !hmac.is_empty() && random.one_in(3) {
            let session = hmac[random.below(hmac.len())];
            let attributes = random.pick(&[1, 1, 1, 0x81, 1 | 2, 1 | 4, 8 | 1]);
            let key = if random.one_in(25) {
                b"wrong".to_vec()
            } else {
                right.to_vec()
            };
            return Auth::Hmac(
                session.handle,
                session.alg,
                session.nonce.clone(),
                attributes,
                key,
            );
        }
        if random.one_in(20)
            && let Some(session) = self.sessions.iter().find(|session| session.policy)
        {
            return Auth::Policy(session.handle, 1, Vec::new());
        }
        Self::password(random, right)
    }

    fn object(&self, random: &mut Random, wanted: impl Fn(Kind) -> bool) -> Option<Object> {
        let any = random.one_in(12);
        let all: Vec<_> = self
            .objects
            .iter()
            .chain(&self.persistent)
            .filter(|object| any || wanted(object.kind))
            .collect();
        if all.is_empty() {
            None
        } else {
            Some(all[random.below(all.len())].clone())
        }
    }

    fn create_primary(&mut self, random: &mut Random) -> Step {
        let kind = if random.one_in(2) {
            Kind::Storage
        } else {
            templates::kind(random, true)
        };
        let auth = random.pick(PASSWORDS).to_vec();
        self.pending = Pending::Primary(kind, auth.clone());
        let step = Step::new(0x131)
            .handle(Handle::fixed(random.pick(HIERARCHIES)))
            .auth(self.auth(random, b""));
        let sensitive = templates::sensitive(random, kind, &auth);
        let public = templates::public(random, kind, true);
        let step = step
            .blob(sensitive)
            .blob(public)
            .blob(random.pick(&[&b""[..], b"outside"]));
        Self::selection(step, random)
    }

    fn selection(step: Step, random: &mut Random) -> Step {
        if random.one_in(2) {
            return step.u32(0);
        }
        let count = if random.one_in(30) {
            9
        } else {
            1 + random.below(2)
        };
        let mut step = step.u32(count as u32);
        for _ in 0..count {
            let alg = if random.one_in(20) {
                0x10
            } else {
                random.pick(HASHES)
            };
            let size = if random.one_in(20) {
                random.pick(&[0, 2, 4, 5])
            } else {
                3
            };
            step = step
                .u16(alg)
                .u8(size)
                .bytes(random.bytes(usize::from(size)));
        }
        step
    }

    fn create(&mut self, random: &mut Random) -> Step {
        let Some(parent) = self.object(random, |kind| kind == Kind::Storage) else {
            return self.create_primary(random);
        };
        let kind = templates::kind(random, random.clone_one_in(4));
        let auth = random.pick(PASSWORDS).to_vec();
        self.pending = Pending::Created(kind, auth.clone());
        let loaded = random.one_in(6);
        let step = Step::new(if loaded { 0x191 } else { 0x153 }).handle(parent.handle.clone());
        let step = step.auth(self.auth(random, &parent.auth));
        let sensitive = templates::sensitive(random, kind, &auth);
        let public = templates::public(random, kind, false);
        let step = step.blob(sensitive).blob(public);
        if loaded {
            self.pending = Pending::Primary(kind, auth);
            return step;
        }
        Self::selection(step.blob(random.pick(&[&b""[..], b"outside"])), random)
    }

    fn load(&mut self, random: &mut Random) -> Step {
        let parent = self.object(random, |kind| kind == Kind::Storage);
        let (Some(parent), false) = (parent, self.created.is_empty()) else {
            return self.create(random);
        };
        let created =
            self.created[self.created.len() - 1 - random.below(self.created.len().min(4))].clone();
        self.pending = Pending::Loaded(created.clone());
        Step::new(0x157)
            .handle(parent.handle.clone())
            .auth(self.auth(random, &parent.auth))
            .each(&created.private)
            .each(&created.public)
    }

    fn load_external(&mut self, random: &mut Random) -> Step {
        let hierarchy = random.pick(&[NULL, NULL, OWNER, ENDORSEMENT, PLATFORM, 0x4000_000A]);
        if random.one_in(2) {
            let kind = random.pick(&[Kind::Hmac, Kind::Cipher, Kind::Sealed]);
            let mut public = templates::public(random, kind, false);
            // Not made by a TPM: fixedTPM, fixedParent and sensitiveDataOrigin clear.
            public[7] &= !0x32;
            let (seed, key) = (random.bytes(32), random.bytes(16));
            if let Some(alg) = HashAlg::from_id(u16::from_be_bytes([public[2], public[3]]))
                && public.ends_with(&[0, 0])
            {
                public.truncate(public.len() - 2);
                let seed = &seed[..alg.size().min(32)];
                public.extend_from_slice(&blob(&hash(alg, &[seed, &key])));
            }
            let object = u16::from_be_bytes([public[0], public[1]]);
            let sensitive = [
                &object.to_be_bytes()[..],
                &blob(b"secret"),
                &blob(&seed),
                &blob(&key),
            ]
            .concat();
            self.pending = Pending::Primary(kind, b"secret".to_vec());
            return Step::new(0x167).blob(sensitive).blob(public).u32(NULL);
        }
        let Some(object) = self.object(random, |_| true) else {
            return self.create_primary(random);
        };
        let mut step = Step::new(0x167).u16(0);
        step = step.each(&object.public);
        step.u32(hierarchy)
    }

    fn flush_object(&mut self, random: &mut Random) -> Step {
        let Some(handle) = self
            .objects
            .iter()
            .map(|object| object.handle.clone())
            .chain(self.sequences.iter().cloned())
            .nth(random.below(self.objects.len() + self.sequences.len()))
        else {
            return Step::new(0x165).u32(0x8000_0000 + random.below(4) as u32);
        };
        self.pending = Pending::Flush(handle.handle[ENGINE]);
        flush(handle.handle)
    }

    fn flush_session(&mut self, random: &mut Random) -> Step {
        if self.sessions.is_empty() {
            return self.start_session(random);
        }
        let session = self.sessions[random.below(self.sessions.len())].handle;
        self.pending = Pending::Flush(session[ENGINE]);
        flush(session)
    }

    fn start_session(&mut self, random: &mut Random) -> Step {
        let kind = random.pick(&[0u8, 1, 1, 3]);
        let id = random.pick(HASHES);
        let Some(alg) = HashAlg::from_id(id) else {
            return self.simple(random);
        };
        self.pending = Pending::Session(kind != 0, alg);
        let nonce = if random.one_in(15) {
            random.pick(&[0, 8, 15, 65])
        } else {
            random.pick(&[16, 20, 32])
        };
        let step = Step::new(0x176)
            .handle(Handle::fixed(NULL))
            .handle(Handle::fixed(NULL));
        let step = step
            .blob(random.bytes(nonce))
            .u16(0)
            .u8(if random.one_in(25) { 2 } else { kind });
        let step = if random.one_in(2) {
            step.u16(0x10)
        } else {
            step.u16(6).u16(128).u16(0x43)
        };
        step.u16(if random.one_in(25) { 0x12 } else { id })
    }

    fn policy(&mut self, random: &mut Random) -> Step {
        let policies: Vec<_> = self
            .sessions
            .iter()
            .filter(|session| session.policy || random.clone_one_in(20))
            .collect();
        if policies.is_empty() {
            return self.start_session(random);
        }
        let session = policies[random.below(policies.len())].clone();
        let handle = Handle {
            handle: session.handle,
            name: [Vec::new(), Vec::new()],
        };
        let on = |code| Step::new(code).handle(handle.clone());
        match random.below(16) {
            0 => on(0x16B),
            1 => on(0x18C),
            2 => on(0x16C).u32(random.pick(&[0x153, 0x15D, 0x137, 0xFFFF])),
            3 => on(0x16F).u8(random.pick(&[1, 2, 4, 0x1F, 0x20, 0, 0xFF])),
            4 => on(0x163).blob(vec![3; random.pick(&[32, 20, 31])]),
            5 => on(0x170).blob(vec![3; random.pick(&[32, 20])]),
            6 => on(0x16D)
                .blob(random.bytes(8))
                .u16(random.below(20) as u16)
                .u16(random.below(12) as u16),
            7 => on(0x171)
                .u32(random.below(10) as u32)
                .each_same(&[vec![0; 32], vec![1; 32], vec![2; 20]], random),
            8 => {
                let digest = if random.one_in(2) {
                    Vec::new()
                } else {
                    random.bytes(32)
                };
                Self::selection(on(0x17F).blob(digest), random)
            }
            9 => on(0x18F).u8(random.pick(&[0, 1, 2])),
            10 => on(0x180),
            11 => on(0x190).blob(vec![4; random.pick(&[32, 20, 48])]),
            12 => on(0x188)
                .blob(random.bytes(34))
                .blob(random.bytes(34))
                .u8(random.pick(&[0, 1, 2])),
            13 => {
                let entity = Handle::fixed(random.pick(HIERARCHIES));
                Step::new(0x151)
                    .handle(entity)
                    .handle(handle)
                    .auth(self.auth(random, b""))
                    .u16(0)
                    .u16(0)
                    .blob(random.pick(&[&b""[..], b"ref"]))
                    .u32(random.pick(&[0, 0, 60, 0xFFFF_FFC4]))
            }
            14 => on(0x187),
            _ => on(0x189),
        }
    }

    fn nv_define(&mut self, random: &mut Random) -> Step {
        let index = 0x0150_0000 + random.below(6) as u32;
        let platform = random.one_in(4);
        let kind = random.pick(&[0u32, 0, 0, 1, 2, 4, 8, 9, 5]);
        let mut attributes = kind << 4 | 0x0004_0004 | 0x0002_0002;
        if platform {
            attributes |= 0x4001_0001;
        }
        for bit in [25u32, 11, 13, 14, 15, 26, 27, 31, 12, 16, 10] {
            if random.one_in(9) {
                attributes |= 1 << bit;
            }
        }
        let size = match kind {
            1 | 2 => 8,
            4 => 32,
            8 | 9 => 8,
            _ => random.pick(&[1, 8, 32, 100, 2048]),
        };
        let size = if random.one_in(20) {
            random.pick(&[0, 7, 2049])
        } else {
            size
        };
        let alg = random.pick(HASHES);
        let auth = random.pick(PASSWORDS).to_vec();
        let policy = if random.one_in(10) {
            random.pick(&[32, 20])
        } else {
            0
        };
        let public = [
            &index.to_be_bytes()[..],
            &alg.to_be_bytes(),
            &attributes.to_be_bytes(),
            &blob(&vec![9; policy]),
            &u16::to_be_bytes(size),
        ]
        .concat();
        self.pending = Pending::Nv(Nv {
            index,
            size,
            auth: auth.clone(),
            attributes,
            public: public.clone(),
        });
        Step::new(0x12A)
            .handle(Handle::fixed(if platform { PLATFORM } else { OWNER }))
            .auth(self.auth(random, b""))
            .blob(auth)
            .blob(public)
    }

    fn nv_use(&mut self, random: &mut Random) -> Step {
        if self.nv.is_empty() {
            return self.nv_define(random);
        }
        let nv = self.nv[random.below(self.nv.len())].clone();
        let handle = nv.handle();
        let (entity, right) = match random.below(4) {
            0 => (Handle::fixed(OWNER), Vec::new()),
            1 if nv.attributes & 0x4000_0000 != 0 => (Handle::fixed(PLATFORM), Vec::new()),
            _ => (handle.clone(), nv.auth.clone()),
        };
        let auth = self.auth(random, &right);
        let on = |code| {
            Step::new(code)
                .handle(entity.clone())
                .handle(handle.clone())
                .auth(auth.clone())
        };
        let offset = if random.one_in(12) {
            random.pick(&[1u16, 4, 2048, 0xFFFF])
        } else {
            0
        };
        let size = nv.size.min(1024);
        self.pending = Pending::NvWritten(nv.index);
        match random.below(14) {
            0..4 => {
                let size = if random.one_in(8) { size / 2 } else { size };
                on(0x137).blob(random.bytes(usize::from(size))).u16(offset)
            }
            4..7 => {
                self.pending = Pending::Nothing;
                on(0x14E).u16(size).u16(offset)
            }
            7 => on(0x134),
            8 => on(0x136).blob(random.bytes(10)),
            9 => on(0x135).u64(1 << random.below(64)),
            10 => {
                self.pending = Pending::Nothing;
                Step::new(0x169).handle(handle)
            }
            11 => {
                self.pending = Pending::Nothing;
                on(random.pick(&[0x138, 0x14F]))
            }
            12 => {
                self.pending = Pending::NvGone(nv.index);
                let owner = if nv.attributes & 0x4000_0000 != 0 {
                    PLATFORM
                } else {
                    OWNER
                };
                Step::new(0x122)
                    .handle(Handle::fixed(owner))
                    .handle(handle)
                    .auth(self.auth(random, b""))
            }
            _ => {
                self.pending = Pending::Nothing;
                let owner = random.pick(&[OWNER, PLATFORM]);
                Step::new(0x132)
                    .handle(Handle::fixed(owner))
                    .auth(self.auth(random, b""))
            }
        }
    }

    fn pcr(&mut self, random: &mut Random) -> Step {
        let pcr = if random.one_in(10) {
            random.pick(&[24u32, 17, 20, 23, NULL])
        } else {
            random.below(24) as u32
        };
        let handle = Handle::fixed(pcr);
        match random.below(6) {
            0..2 => Self::selection(Step::new(0x17E), random),
            2..4 => {
                let alg = random.pick(HASHES);
                let size = HashAlg::from_id(alg).map_or(32, HashAlg::size);
                Step::new(0x182)
                    .handle(handle)
                    .auth(Self::password(random, b""))
                    .u32(1)
                    .u16(alg)
                    .bytes(random.bytes(size))
            }
            4 => Step::new(0x13C)
                .handle(handle)
                .auth(Self::password(random, b""))
                .blob(random.bytes(20)),
            _ => Step::new(0x13D)
                .handle(handle)
                .auth(Self::password(random, b"")),
        }
    }

    fn sign(&mut self, random: &mut Random) -> Step {
        let Some(key) = self.object(random, |kind| kind == Kind::Signing) else {
            return self.create_primary(random);
        };
        let alg = random.pick(HASHES);
        let size = HashAlg::from_id(alg).map_or(32, HashAlg::size);
        let size = if random.one_in(12) {
            random.pick(&[0, 5, 20, 32, 64, 65])
        } else {
            size
        };
        let digest = random.bytes(size);
        let mut step = Step::new(0x15D)
            .handle(key.handle.clone())
            .auth(self.auth(random, &key.auth))
            .blob(digest);
        let scheme = random.pick(&[0x10u16, 0x18, 0x18, 0x1C, 0x14, 0x16, 0x1A, 5, 0x41]);
        step = step.u16(scheme);
        if scheme != 0x10 {
            step = step.u16(alg);
        }
        if scheme == 0x1A {
            step = step.u16(0);
        }
        step.u16(0x8024).u32(NULL).u16(0)
    }

    fn key_use(&mut self, random: &mut Random) -> Step {
        match random.below(7) {
            0 => {
                let Some(key) =
                    self.object(random, |kind| matches!(kind, Kind::Ecdh | Kind::Signing))
                else {
                    return self.create_primary(random);
                };
                Step::new(0x163).handle(key.handle)
            }
            1 => {
                let Some(key) = self.object(random, |kind| kind == Kind::Ecdh) else {
                    return self.create_primary(random);
                };
                // The base point of P-256, or something that is no point.
                let gx =
                    hex::decode("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
                        .unwrap_or_default();
                let gy =
                    hex::decode("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
                        .unwrap_or_default();
                let x = if random.one_in(6) { vec![1; 32] } else { gx };
                Step::new(0x154)
                    .handle(key.handle)
                    .auth(self.auth(random, &key.auth))
                    .blob([blob(&x), blob(&gy)].concat())
            }
            2 => {
                let Some(key) = self.object(random, |kind| kind == Kind::Cipher) else {
                    return self.load_external(random);
                };
                let size = random.pick(&[0, 15, 16, 64, 100]);
                let data = random.bytes(size);
                let mode = random.pick(&[0x43u16, 0x40, 0x41, 0x42, 0x44, 0x10]);
                let iv = if random.one_in(8) {
                    random.pick(&[0, 8])
                } else if mode == 0x44 {
                    0
                } else {
                    16
                };
                let decrypt = random.pick(&[0, 1]);
                let auth = self.auth(random, &key.auth);
                if random.one_in(2) {
                    Step::new(0x164)
                        .handle(key.handle)
                        .auth(auth)
                        .u8(decrypt)
                        .u16(mode)
                        .blob(vec![1; iv])
                        .blob(data)
                } else {
                    Step::new(0x193)
                        .handle(key.handle)
                        .auth(auth)
                        .blob(data)
                        .u8(decrypt)
                        .u16(mode)
                        .blob(vec![1; iv])
                }
            }
            3 => {
                let Some(key) = self.object(random, |kind| kind == Kind::Hmac) else {
                    return self.load_external(random);
                };
                let (size, alg) = (
                    random.pick(&[0, 32, 1024]),
                    random.pick(&[0x0Bu16, 0x10, 0x04, 0x12]),
                );
                Step::new(0x155)
                    .handle(key.handle)
                    .auth(self.auth(random, &key.auth))
                    .blob(random.bytes(size))
                    .u16(alg)
            }
            4 => {
                let Some(key) = self.object(random, |kind| kind == Kind::RsaDecrypt) else {
                    return self.create_primary(random);
                };
                let size = random.pick(&[0, 1, 20, 200, 256, 257]);
                let scheme = random.pick(&[0x10u16, 0x15, 0x17, 0x14]);
                let mut step = Step::new(0x174)
                    .handle(key.handle)
                    .blob(random.bytes(size))
                    .u16(scheme);
                if matches!(scheme, 0x17 | 0x14) {
                    step = step.u16(random.pick(HASHES));
                }
                step.blob(random.pick(&[&b""[..], b"label\0", b"label"]))
            }
            5 => {
                let Some(key) = self.object(random, |kind| kind == Kind::Sealed) else {
                    return self.create(random);
                };
                Step::new(0x15E)
                    .handle(key.handle)
                    .auth(self.auth(random, &key.auth))
            }
            _ => {
                let Some(key) = self.object(random, |kind| kind == Kind::Storage) else {
                    return self.create_primary(random);
                };
                let Some(other) = self.object(random, |_| true) else {
                    return self.create_primary(random);
                };
                let name = [
                    blob(&other.handle.name[ENGINE]),
                    blob(&other.handle.name[REFERENCE]),
                ];
                let size = random.pick(&[1, 20, 32, 33, 64]);
                Step::new(0x168)
                    .handle(key.handle)
                    .blob(random.bytes(size))
                    .each(&name)
            }
        }
    }

    fn object_use(&mut self, random: &mut Random) -> Step {
        let Some(object) = self.object(random, |_| true) else {
            return self.create_primary(random);
        };
        match random.below(5) {
            0..2 => Step::new(0x173).handle(object.handle),
            2 => {
                let Some(parent) = self.object(random, |kind| kind == Kind::Storage) else {
                    return self.create_primary(random);
                };
                let auth = self.auth(random, &object.auth);
                Step::new(0x150)
                    .handle(object.handle)
                    .handle(parent.handle)
                    .auth(auth)
                    .blob(random.pick(PASSWORDS))
            }
            3 => {
                // No signature at all, and one that cannot verify.
                let alg = random.pick(HASHES);
                let digest = random.bytes(HashAlg::from_id(alg).map_or(32, HashAlg::size));
                let step = Step::new(0x177).handle(object.handle).blob(digest);
                match random.below(4) {
                    0 => step.u16(0x10),
                    1 => step.u16(0x14).u16(alg).blob(random.bytes(256)),
                    2 => step.u16(5).u16(alg).bytes(random.bytes(20)),
                    _ => step
                        .u16(0x18)
                        .u16(alg)
                        .blob(random.bytes(32))
                        .blob(random.bytes(32)),
                }
            }
            _ => Step::new(0x178)
                .u16(random.pick(&[3, 4, 5, 0x10, 0, 9]))
                .no_handle(),
        }
    }

    fn attest(&mut self, random: &mut Random) -> Step {
        let Some(key) = self.object(random, |kind| kind == Kind::Signing) else {
            return self.create_primary(random);
        };
        let auth = self.auth(random, &key.auth);
        let null = random.one_in(8);
        let signer = if null {
            Handle::fixed(NULL)
        } else {
            key.handle
        };
        let auth = if null {
            Auth::Password(Vec::new())
        } else {
            auth
        };
        let scheme = |step: Step, random: &mut Random| match random.below(3) {
            0 => step.u16(0x10),
            1 => step.u16(0x18).u16(random.pick(HASHES)),
            _ => step.u16(0x14).u16(0x0B),
        };
        match random.below(5) {
            0..2 => {
                let step = scheme(
                    Step::new(0x158).handle(signer).auth(auth).blob(b"qualify"),
                    random,
                );
                Self::selection(step, random)
            }
            2 => {
                let Some(object) = self.object(random, |_| true) else {
                    return self.create_primary(random);
                };
                let step = Step::new(0x148)
                    .handle(object.handle)
                    .handle(signer)
                    .auth(self.auth(random, &object.auth));
                scheme(step.auth(auth).blob(b"qualify"), random)
            }
            3 => {
                let step = Step::new(0x14C)
                    .handle(Handle::fixed(random.pick(&[ENDORSEMENT, OWNER])))
                    .handle(signer);
                scheme(
                    step.auth(Self::password(random, b""))
                        .auth(auth)
                        .blob(b"qualify"),
                    random,
                )
            }
            _ => {
                if self.nv.is_empty() {
                    return self.nv_define(random);
                }
                let nv = self.nv[random.below(self.nv.len())].clone();
                let step = Step::new(0x184)
                    .handle(signer)
                    .handle(nv.handle())
                    .handle(nv.handle());
                let step = step
                    .auth(auth)
                    .auth(Self::password(random, &nv.auth))
                    .blob(b"qualify");
                scheme(step, random).u16(nv.size.min(64)).u16(0)
            }
        }
    }

    fn hierarchy(&mut self, random: &mut Random) -> Step {
        let hierarchy = Handle::fixed(random.pick(&[OWNER, ENDORSEMENT, PLATFORM, LOCKOUT, NULL]));
        let auth = self.auth(random, b"");
        match random.below(6) {
            // Always back to the empty value, so that later commands are authorized.
            0 => Step::new(0x129).handle(hierarchy).auth(auth).u16(0),
            1 => {
                let (policy, alg) = random.pick(&[(0, 0x10u16), (32, 0x0B), (20, 0x0B), (20, 4)]);
                Step::new(0x12E)
                    .handle(hierarchy)
                    .auth(auth)
                    .blob(vec![1; policy])
                    .u16(alg)
            }
            2 => Step::new(0x127)
                .handle(hierarchy)
                .auth(auth)
                .u8(random.pick(&[0, 0, 1, 2])),
            3 => {
                let enable = random.pick(&[OWNER, ENDORSEMENT, 0x4000_000D, NULL]);
                let state = if random.one_in(3) { 0 } else { 1 };
                Step::new(0x121)
                    .handle(Handle::fixed(random.pick(&[PLATFORM, OWNER])))
                    .auth(auth)
                    .u32(enable)
                    .u8(state)
            }
            4 => Step::new(0x140)
                .handle(hierarchy)
                .auth(auth)
                .u16(random.pick(HASHES))
                .u32(1)
                .u32(0x15D)
                .u32(0),
            _ => Step::new(0x129)
                .handle(hierarchy)
                .auth(auth)
                .blob(vec![1; random.pick(&[65, 49, 33])]),
        }
    }

    fn capability(&mut self, random: &mut Random) -> Step {
        let kind = random.pick(&[0u32, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x100]);
        let first = match kind {
            1 => random.pick(&[
                0x0100_0000u32,
                0x0200_0000,
                0x0300_0000,
                0x4000_0000,
                0x8000_0000,
                0x8100_0000,
                0,
            ]),
            6 => random.pick(&[0x100u32, 0x200, 0x210, 0x300]),
            _ => random.below(0x200) as u32,
        };
        Step::new(0x17A)
            .u32(kind)
            .u32(first)
            .u32(random.pick(&[0, 1, 5, 100, 0xFFFF_FFFF]))
    }

    fn sequence(&mut self, random: &mut Random) -> Step {
        if self.sequences.is_empty() || random.one_in(4) {
            self.pending = Pending::Sequence;
            let alg = if random.one_in(4) {
                0x10
            } else {
                random.pick(HASHES)
            };
            return Step::new(0x186).u16(0).u16(alg);
        }
        let handle = self.sequences[random.below(self.sequences.len())].clone();
        let auth = Self::password(random, b"");
        let size = random.pick(&[0, 20, 64, 1024]);
        let data = random.bytes(size);
        if random.one_in(2) {
            return Step::new(0x15C).handle(handle).auth(auth).blob(data);
        }
        self.pending = Pending::SequenceOver;
        if random.one_in(3) {
            let pcr = Handle::fixed(random.pick(&[16, NULL]));
            return Step::new(0x185)
                .handle(pcr)
                .handle(handle)
                .auth(Auth::Password(Vec::new()))
                .auth(auth)
                .blob(data);
        }
        Step::new(0x13E)
            .handle(handle)
            .auth(auth)
            .blob(data)
            .u32(random.pick(&[NULL, OWNER]))
    }

    fn context(&mut self, random: &mut Random) -> Step {
        if !self.contexts.is_empty() && random.one_in(2) {
            let context = self.contexts[random.below(self.contexts.len())].clone();
            return Step::new(0x161).each(&context);
        }
        let handle = match (random.below(2), self.objects.len(), self.sessions.len()) {
            (0, 1.., _) => self.objects[random.below(self.objects.len())]
                .handle
                .clone(),
            (_, _, 1..) => {
                let session = self.sessions.remove(random.below(self.sessions.len()));
                Handle {
                    handle: session.handle,
                    name: [Vec::new(), Vec::new()],
                }
            }
            _ => return self.create_primary(random),
        };
        self.pending = Pending::Saved;
        Step::new(0x162).handle(handle)
    }

    fn persist(&mut self, random: &mut Random) -> Step {
        let persistent = 0x8100_0000 + random.below(4) as u32;
        if !self.persistent.is_empty() && random.one_in(3) {
            let object = self.persistent[random.below(self.persistent.len())].clone();
            self.pending = Pending::Flush(object.handle.handle[ENGINE]);
            return Step::new(0x120)
                .handle(Handle::fixed(OWNER))
                .handle(object.handle.clone())
                .auth(Self::password(random, b""))
                .u32(object.handle.handle[ENGINE]);
        }
        if self.objects.is_empty() {
            return self.create_primary(random);
        }
        let index = random.below(self.objects.len());
        self.pending = Pending::Persist(index, persistent);
        let auth = random.pick(&[OWNER, OWNER, PLATFORM]);
        Step::new(0x120)
            .handle(Handle::fixed(auth))
            .handle(self.objects[index].handle.clone())
            .auth(Self::password(random, b""))
            .u32(if auth == PLATFORM && random.one_in(2) {
                0x8180_0000
            } else {
                persistent
            })
    }

    fn duplicate(&mut self, random: &mut Random) -> Step {
        let Some(object) = self.object(random, |_| true) else {
            return self.create_primary(random);
        };
        match random.below(3) {
            0 => {
                let auth = match self.sessions.iter().find(|session| session.policy) {
                    Some(session) => Auth::Policy(session.handle, 1, Vec::new()),
                    None => Self::password(random, &object.auth),
                };
                let step = Step::new(0x14B)
                    .handle(object.handle)
                    .handle(Handle::fixed(NULL))
                    .auth(auth)
                    .u16(0);
                if random.one_in(2) {
                    step.u16(0x10)
                } else {
                    step.u16(6).u16(128).u16(0x43)
                }
            }
            1 => {
                let Some(parent) = self.object(random, |kind| kind == Kind::Storage) else {
                    return self.create_primary(random);
                };
                let public = templates::public(random, Kind::Hmac, false);
                Step::new(0x156)
                    .handle(parent.handle)
                    .auth(self.auth(random, &parent.auth))
                    .u16(0)
                    .blob(public)
                    .blob(random.bytes(60))
                    .u16(0)
                    .u16(0x10)
            }
            _ => {
                let Some(parent) = self.object(random, |kind| kind == Kind::Storage) else {
                    return self.create_primary(random);
                };
                Step::new(0x147)
                    .handle(object.handle)
                    .handle(parent.handle)
                    .auth(self.auth(random, &object.auth))
                    .auth(Self::password(random, &parent.auth))
                    .blob(random.bytes(50))
                    .blob(random.bytes(100))
            }
        }
    }

    fn dictionary(&mut self, random: &mut Random) -> Step {
        let lockout = Handle::fixed(LOCKOUT);
        let auth = Auth::Password(Vec::new());
        if random.one_in(3) {
            return Step::new(0x13A)
                .handle(lockout)
                .auth(auth)
                .u32(random.pick(&[3, 10, 1000]))
                .u32(10_000)
                .u32(10_000);
        }
        Step::new(0x139).handle(lockout).auth(auth)
    }

    fn simple(&mut self, random: &mut Random) -> Step {
        match random.below(14) {
            0 => Step::new(0x143).u8(random.pick(&[0, 1, 2])),
            1 => Step::new(0x17C),
            2 => Step::new(0x17B).u16(random.pick(&[0, 1, 32, 48, 64, 65, 1000])),
            3 => Step::new(0x146).blob(random.bytes(random.clone_below(130))),
            4 => {
                let hierarchy = random.pick(&[NULL, OWNER, ENDORSEMENT, PLATFORM, LOCKOUT]);
                let size = random.pick(&[0, 10, 1024, 1025]);
                Step::new(0x17D)
                    .blob(random.bytes(size))
                    .u16(random.pick(HASHES))
                    .u32(hierarchy)
            }
            5 => {
                let kind = templates::kind(random, true);
                let public = templates::public(random, kind, true);
                // TPMT_PUBLIC_PARMS: the type, and what follows the policy.
                let policy = usize::from(u16::from_be_bytes([public[8], public[9]]));
                let parameters = public.get(10 + policy..).unwrap_or_default().to_vec();
                let parameters = parameters[..parameters.len().saturating_sub(2)].to_vec();
                Step::new(0x18A).bytes(&public[..2]).bytes(parameters)
            }
            6 => Step::new(0x142)
                .u32(1)
                .u16(random.pick(&[0x0B, 6, 0x14, 0x23])),
            7 => Step::new(0x18E).u16(random.pick(&[3, 4, 0x10, 9])),
            8 => Step::new(random.pick(&[
                0x11E,
                0x123,
                0x141,
                0x14D,
                0x166,
                0x175,
                0x179,
                0x183,
                0x194,
                0x197,
                0x2000_0001,
                0,
            ])),
            9 => Step::new(0x144).u16(random.pick(&[0, 1, 2])),
            10 => Step::new(0x12D)
                .handle(Handle::fixed(PLATFORM))
                .auth(Auth::Password(Vec::new()))
                .u32(0)
                .u32(0),
            11 => Step::new(0x13F)
                .handle(Handle::fixed(PLATFORM))
                .auth(Auth::Password(Vec::new()))
                .u32(0),
            12 => Step::new(0x178).u16(random.pick(&[3, 4, 5, 0x10, 0, 9])),
            _ => Step::new(0x133)
                .handle(Handle::fixed(ENDORSEMENT))
                .handle(Handle::fixed(NULL))
                .auth(Auth::Password(Vec::new()))
                .auth(Auth::Password(Vec::new()))
                .blob(b"")
                .u16(0x10),
        }
    }

    fn restart(&mut self, random: &mut Random) -> Step {
        match random.below(6) {
            0 => Step::new(0x145).u16(random.pick(&[0, 1, 2])),
            1 => {
                let mut step = Step::new(0x144).u16(random.pick(&[0, 0, 1]));
                step.power_cycle = true;
                self.pending = Pending::Restarted;
                // Without a startup everything would fail; the next one comes if this one does.
                step
            }
            _ => Step::new(0x144).u16(0),
        }
    }

    fn clock(&mut self, random: &mut Random) -> Step {
        let entity = Handle::fixed(random.pick(&[OWNER, PLATFORM, ENDORSEMENT]));
        let auth = self.auth(random, b"");
        match random.below(4) {
            0 => Step::new(0x181),
            1 => Step::new(0x128)
                .handle(entity)
                .auth(auth)
                .u64(random.pick(&[0, 1 << 20, 1 << 30, u64::MAX])),
            2 => Step::new(0x130)
                .handle(entity)
                .auth(auth)
                .u32(random.pick(&[0, 1, 2, 3, 0xFFFF_FFFF, 0xFFFF_FFFD, 4])),
            _ => Step::new(0x126)
                .handle(Handle::fixed(random.pick(&[OWNER, LOCKOUT])))
                .auth(Self::password(random, b"wrong")),
        }
    }

    /// Follows what a step did.
    pub fn learn(&mut self, step: &Step, exchange: &Exchange) {
        if exchange.actual.code() != 0 {
            return;
        }
        let code = step.code;
        // New nonces of every HMAC session that was used.
        if step
            .auths
            .iter()
            .any(|auth| matches!(auth, Auth::Hmac(..) | Auth::Policy(..)))
        {
            self.roll(step, exchange);
        }
        let parameters = [
            exchange.actual.parameters(code),
            exchange.expected.parameters(code),
        ];
        let handles = match (exchange.actual.handle(code), exchange.expected.handle(code)) {
            (Some(actual), Some(expected)) => [actual, expected],
            _ => [0, 0],
        };
        match core::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => {}
            Pending::Primary(kind, auth) => {
                let both = parameters.map(|bytes| named(code, bytes));
                if let [Some((public, name)), Some((public_2, name_2))] = both {
                    let public = if public.is_empty() {
                        [Vec::new(), Vec::new()]
                    } else {
                        [public, public_2]
                    };
                    self.objects.push(Object {
                        handle: Handle {
                            handle: handles,
                            name: [name, name_2],
                        },
                        kind,
                        auth,
                        public,
                    });
                }
            }
            Pending::Created(kind, auth) => {
                let [a, b] = parameters.map(|bytes| two_blobs(bytes).unwrap_or_default());
                self.created.push(Created {
                    private: [a.0, b.0],
                    public: [a.1, b.1],
                    kind,
                    auth,
                });
            }
            Pending::Loaded(created) => {
                let [a, b] = parameters.map(|bytes| bytes.get(2..).unwrap_or_default().to_vec());
                self.objects.push(Object {
                    handle: Handle {
                        handle: handles,
                        name: [a, b],
                    },
                    kind: created.kind,
                    auth: created.auth,
                    public: created.public,
                });
            }
            Pending::Session(policy, alg) => {
                let nonce = parameters.map(|bytes| bytes.get(2..).unwrap_or_default().to_vec());
                self.sessions.push(Session {
                    handle: handles,
                    policy,
                    alg,
                    nonce,
                });
            }
            Pending::Flush(handle) => {
                self.objects
                    .retain(|object| object.handle.handle[ENGINE] != handle);
                self.persistent
                    .retain(|object| object.handle.handle[ENGINE] != handle);
                self.sequences
                    .retain(|sequence| sequence.handle[ENGINE] != handle);
                self.sessions
                    .retain(|session| session.handle[ENGINE] != handle);
            }
            Pending::Nv(nv) => {
                self.nv.retain(|old| old.index != nv.index);
                self.nv.push(nv);
            }
            Pending::NvWritten(index) => {
                for nv in self.nv.iter_mut().filter(|nv| nv.index == index) {
                    nv.attributes |= 1 << 29;
                    nv.public[6..10].copy_from_slice(&nv.attributes.to_be_bytes());
                }
            }
            Pending::NvGone(index) => self.nv.retain(|nv| nv.index != index),
            Pending::Saved => self.contexts.push(parameters.map(<[u8]>::to_vec)),
            Pending::Persist(index, handle) => {
                if let Some(Part::Same(bytes)) = step.parameters.first()
                    && bytes == &handle.to_be_bytes()
                {
                    let mut object = self.objects[index].clone();
                    object.handle.handle = [handle; 2];
                    self.persistent.push(object);
                }
            }
            Pending::Sequence => self.sequences.push(Handle {
                handle: handles,
                name: [Vec::new(), Vec::new()],
            }),
            Pending::SequenceOver => {
                if let Some(over) = step.handles.last() {
                    self.sequences
                        .retain(|sequence| sequence.handle != over.handle);
                }
            }
            Pending::Restarted => {
                self.objects.clear();
                self.sequences.clear();
                self.sessions.clear();
            }
        }
    }

    fn roll(&mut self, step: &Step, exchange: &Exchange) {
        let sides = [
            exchange.actual.sessions(step.code),
            exchange.expected.sessions(step.code),
        ];
        for (side, mut area) in sides.into_iter().enumerate() {
            for auth in &step.auths {
                let Some((nonce, rest)) = split_blob(area) else {
                    return;
                };
                let attributes = rest.first().copied().unwrap_or(0);
                area = rest
                    .get(1..)
                    .and_then(split_blob)
                    .map(|found| found.1)
                    .unwrap_or_default();
                let (Auth::Hmac(handle, ..) | Auth::Policy(handle, ..)) = auth else {
                    continue;
                };
                if attributes & 1 == 0 {
                    self.sessions
                        .retain(|session| session.handle[side] != handle[side]);
                } else if let Some(session) = self
                    .sessions
                    .iter_mut()
                    .find(|session| session.handle[side] == handle[side])
                {
                    session.nonce[side] = nonce.to_vec();
                }
            }
        }
    }
}

impl Nv {
    fn handle(&self) -> Handle {
        let id = u16::from_be_bytes([self.public[4], self.public[5]]);
        let name = HashAlg::from_id(id)
            .map(|alg| [&id.to_be_bytes()[..], &hash(alg, &[&self.public])].concat());
        let name = name.unwrap_or_default();
        Handle {
            handle: [self.index; 2],
            name: [name.clone(), name],
        }
    }
}

impl Step {
    fn no_handle(mut self) -> Self {
        self.handles.clear();
        self
    }

    /// A TPML_DIGEST of some of the digests.
    fn each_same(mut self, digests: &[Vec<u8>], random: &mut Random) -> Self {
        // Replaces the count that was given.
        self.parameters.clear();
        let count = random.below(9);
        self = self.u32(count as u32);
        for _ in 0..count {
            let index = if random.one_in(12) {
                2
            } else {
                random.below(2)
            };
            self = self.blob(&digests[index]);
        }
        self
    }
}

impl Random {
    /// As [`Random::one_in`], from where only a shared reference is at hand.
    fn clone_one_in(&self, n: usize) -> bool {
        Random::new(self.peek()).one_in(n)
    }

    fn clone_below(&self, limit: usize) -> usize {
        Random::new(self.peek()).below(limit)
    }
}

fn flush(handle: Pair<u32>) -> Step {
    Step::new(0x165).each(&handle.map(|handle| handle.to_be_bytes().to_vec()))
}

/// A TPM2B's contents, and the rest.
fn split_blob(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}

/// The first two TPM2B with their sizes.
fn two_blobs(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (first, rest) = split_blob(bytes)?;
    let (second, _) = split_blob(rest)?;
    Some((blob(first), blob(second)))
}

/// TPM2B_PUBLIC (where the response has it) and name of an object that was made.
fn named(code: u32, bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    match code {
        0x131 => {
            let (public, mut rest) = split_blob(bytes)?;
            for _ in 0..2 {
                rest = split_blob(rest)?.1;
            }
            let (_, rest) = split_blob(rest.get(6..)?)?;
            Some((blob(public), split_blob(rest)?.0.to_vec()))
        }
        0x191 => {
            let (_, rest) = split_blob(bytes)?;
            let (public, rest) = split_blob(rest)?;
            Some((blob(public), split_blob(rest)?.0.to_vec()))
        }
        _ => Some((Vec::new(), split_blob(bytes)?.0.to_vec())),
    }
}
