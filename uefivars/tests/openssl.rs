//! The verification of PKCS #7 signatures against the one of OpenSSL: both say the same of
//! every payload, damaged in thousands of ways.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use common::{APPEND, AT, DB, vector};
use uefivars::auth::AuthError;
use uefivars::auth::cms::SignedData;
use uefivars::auth::header::Request;
use uefivars::guids;
use uefivars::siglist;

/// A payload, what it was signed for, and who may sign.
struct Base {
    name: &'static str,
    data: Vec<u8>,
    variable: &'static str,
    attributes: u32,
    anchors: Vec<u8>,
}

fn bases() -> Vec<Base> {
    let base = |name, variable, attributes| Base {
        name,
        data: vector(name),
        variable,
        attributes,
        anchors: vector("kek-all.esl"),
    };
    let mut bases = vec![
        base("db.auth", "db", AT),
        base("sb-db.auth", "db", AT),
        base("sb-db-append.auth", "db", AT | APPEND),
        base("db-by-other.auth", "db", AT),
        base("way-rsa2048-attributes.auth", "db", AT),
        base("way-rsa2048-keyid.auth", "db", AT),
        base("way-rsa2048-sha384.auth", "db", AT),
        base("way-rsa3072.auth", "db", AT),
        base("way-rsa4096-sha512-attributes.auth", "db", AT),
        base("way-p256.auth", "db", AT),
        base("way-p256-attributes.auth", "db", AT),
        base("way-p384-sha384.auth", "db", AT),
        base("way-p384-sha256.auth", "db", AT),
        base("way-chain.auth", "db", AT),
        base("way-chain-p256-p384.auth", "db", AT),
        base("way-refused-not-a-ca.auth", "db", AT),
        base("way-refused-chain-cut.auth", "db", AT),
        base("way-refused-no-certificate.auth", "db", AT),
    ];
    let microsoft =
        |certificate: &[u8]| siglist::single(guids::CERT_X509, guids::GLOBAL, certificate).unwrap();
    use virtfw_libefi::sb::certs::{MICROSOFT_KEK_2011, MICROSOFT_KEK_2023};
    use virtfw_libefi::sb::dbx::{DBX_2011_X86_64, DBX_2023_X86_64};
    for (name, data, kek) in [
        ("microsoft 2011", DBX_2011_X86_64, MICROSOFT_KEK_2011),
        ("microsoft 2023", DBX_2023_X86_64, MICROSOFT_KEK_2023),
    ] {
        bases.push(Base {
            name,
            data: data.to_vec(),
            variable: "dbx",
            attributes: AT | APPEND,
            anchors: microsoft(kek),
        });
    }
    bases
}

impl Base {
    fn request(&self) -> Request<'_> {
        Request::parse(&self.data).unwrap()
    }

    fn content(&self) -> Vec<u8> {
        let mut content: Vec<u8> = self
            .variable
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        content.extend(DB.to_bytes());
        content.extend(self.attributes.to_le_bytes());
        content.extend(&self.data[..16]);
        content.extend(self.request().payload);
        content
    }

    fn ours(&self, pkcs7: &[u8]) -> Result<(), AuthError> {
        let anchors = siglist::certificates(&self.anchors);
        SignedData::parse(pkcs7)?.verify(&[&self.content()], anchors)
    }

    /// Files for OpenSSL: content and trusted certificates.
    fn prepare(&self, dir: &Path) {
        fs::write(dir.join("content"), self.content()).unwrap();
        let mut pem = String::new();
        for certificate in siglist::certificates(&self.anchors) {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(certificate);
            pem += "-----BEGIN CERTIFICATE-----\n";
            for line in text.as_bytes().chunks(64) {
                pem += std::str::from_utf8(line).unwrap();
                pem += "\n";
            }
            pem += "-----END CERTIFICATE-----\n";
        }
        fs::write(dir.join("anchors"), pem).unwrap();
    }

    fn openssl(&self, dir: &Path, pkcs7: &[u8]) -> bool {
        fs::write(
            dir.join("signature"),
            with_content_info(self.request().pkcs7, pkcs7),
        )
        .unwrap();
        Command::new("openssl")
            .args([
                "cms",
                "-verify",
                "-binary",
                "-inform",
                "DER",
                "-in",
                "signature",
            ])
            .args([
                "-content",
                "content",
                "-CAfile",
                "anchors",
                "-partial_chain",
            ])
            .args(["-no_check_time", "-purpose", "any", "-out", "/dev/null"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("cannot start openssl; scripts/setup.sh installs it")
            .success()
    }
}

/// OpenSSL wants the ContentInfo that UEFI leaves out. It is put around where the undamaged
/// signature has none.
fn with_content_info(good: &[u8], pkcs7: &[u8]) -> Vec<u8> {
    // SEQUENCE, its length, and the first element: an OBJECT IDENTIFIER or a version.
    let first = if good[1] < 0x80 {
        2
    } else {
        2 + usize::from(good[1] & 0x7f)
    };
    if good[first] == 6 {
        return pkcs7.to_vec();
    }
    let wrap = |tag: u8, inside: &[u8]| {
        let mut out = vec![tag, 0x82];
        out.extend(u16::try_from(inside.len()).unwrap().to_be_bytes());
        out.extend(inside);
        out
    };
    let mut inside = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02".to_vec();
    inside.extend(wrap(0xa0, pkcs7));
    wrap(0x30, &inside)
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }
}

/// Damages a signature in one of several ways.
fn mutate(random: &mut Random, good: &[u8]) -> Vec<u8> {
    let mut bad = good.to_vec();
    let at = random.below(bad.len());
    match random.below(10) {
        0..4 => bad[at] ^= 1 << random.below(8),
        4..6 => bad[at] = random.below(256) as u8,
        // The other case of a letter: names do not mind.
        6 => match bad.iter().skip(at).position(u8::is_ascii_alphabetic) {
            Some(offset) => bad[at + offset] ^= 0x20,
            None => bad[at] ^= 0x20,
        },
        7 => {
            bad.remove(at);
        }
        8 => bad.insert(at, random.below(256) as u8),
        _ => {
            let from = random.below(bad.len());
            let len = (1 + random.below(8))
                .min(bad.len() - at)
                .min(bad.len() - from);
            bad[at..at + len].copy_from_slice(&good[from..from + len]);
        }
    }
    bad
}

#[test]
fn undamaged_payloads_are_judged_as_openssl_judges_them() {
    let dir = tempfile::tempdir().unwrap();
    for base in bases() {
        base.prepare(dir.path());
        let good = base.request().pkcs7.to_vec();
        let expected = !base.name.contains("refused") && base.name != "db-by-other.auth";
        assert_eq!(
            base.ours(&good).is_ok(),
            expected,
            "{}: uefivars",
            base.name
        );
        assert_eq!(
            base.openssl(dir.path(), &good),
            expected,
            "{}: openssl",
            base.name
        );
    }
}

/// What a comparison came to.
#[derive(Default)]
struct Tally {
    agreed: usize,
    accepted: usize,
    /// Refused here for a reason that OpenSSL knows of but does not act on: [`is_stricter`].
    stricter: usize,
    disagreements: Vec<String>,
}

#[test]
fn damaged_payloads_are_judged_as_openssl_judges_them() {
    let each = std::env::var("UEFIVARS_MUTATIONS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(120);
    let bases = bases();
    let mut sum = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = bases
            .chunks(bases.len().div_ceil(2))
            .enumerate()
            .map(|(seed, bases)| scope.spawn(move || compare(seed as u64 + 1, bases, each)))
            .collect();
        for worker in workers {
            let part = worker.join().unwrap();
            sum.agreed += part.agreed;
            sum.accepted += part.accepted;
            sum.stricter += part.stricter;
            sum.disagreements.extend(part.disagreements);
        }
    });
    println!(
        "{} damaged payloads judged the same, {} of them accepted; {} refused that OpenSSL \
         lets pass, {} disagreements",
        sum.agreed,
        sum.accepted,
        sum.stricter,
        sum.disagreements.len()
    );
    assert!(
        sum.disagreements.is_empty(),
        "{}",
        sum.disagreements.join("\n")
    );
    assert!(sum.agreed >= 2000 && sum.accepted > 0);
    assert!(sum.stricter * 50 < sum.agreed);
}

fn compare(seed: u64, bases: &[Base], each: usize) -> Tally {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
    let mut tally = Tally::default();
    for base in bases {
        base.prepare(dir.path());
        let good = base.request().pkcs7;
        for n in 0..each {
            let bad = mutate(&mut random, good);
            if bad == good {
                continue;
            }
            let (ours, theirs) = (base.ours(&bad), base.openssl(dir.path(), &bad));
            match ours {
                Ok(()) if theirs => {
                    tally.agreed += 1;
                    tally.accepted += 1;
                }
                Err(_) if !theirs => tally.agreed += 1,
                Err(error) if is_stricter(dir.path(), error) => tally.stricter += 1,
                _ => {
                    let kept = std::env::temp_dir().join(format!("uefivars-{seed}-{n}.der"));
                    fs::write(&kept, &bad).unwrap();
                    let at = good.iter().zip(&bad).position(|(a, b)| a != b);
                    tally.disagreements.push(format!(
                        "{}: uefivars {ours:?}, openssl {theirs}, first difference at {at:?}: {}",
                        base.name,
                        kept.display()
                    ));
                }
            }
        }
    }
    tally
}

/// The two things that OpenSSL lets pass and this crate does not, both outside of what is
/// signed: a signer's digest algorithm that does not exist, for which OpenSSL takes the
/// first one announced, and encodings that are BER, or not even that, but not DER.
fn is_stricter(dir: &Path, error: AuthError) -> bool {
    match error {
        AuthError::Digest => true,
        AuthError::Malformed | AuthError::NoSignerCertificate => {
            let read = fs::read(dir.join("signature")).unwrap();
            let output = Command::new("openssl")
                .args(["cms", "-cmsout", "-inform", "DER", "-outform", "DER"])
                .args(["-in", "signature"])
                .current_dir(dir)
                .output()
                .unwrap();
            has_primitive_sequence(&read) || (output.status.success() && output.stdout != read)
        }
        _ => false,
    }
}

/// Whether a SEQUENCE or SET says that it has no elements inside, which OpenSSL overlooks.
fn has_primitive_sequence(mut der: &[u8]) -> bool {
    while let [tag, length, rest @ ..] = der {
        let octets = if *length < 0x80 {
            0
        } else {
            usize::from(length & 0x7f)
        };
        let Some((long, rest)) = rest.split_at_checked(octets.min(4)) else {
            return false;
        };
        let length = match octets {
            0 => usize::from(*length),
            _ => long.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
        };
        let Some((inside, rest)) = rest.split_at_checked(length) else {
            return false;
        };
        if matches!(tag, 0x10 | 0x11) || (tag & 0x20 != 0 && has_primitive_sequence(inside)) {
            return true;
        }
        der = rest;
    }
    false
}
