//! The program as a user starts it: serving, administration, ends on purpose.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::{Client, DEFAULT, SECRET, Svsm, refused};
use kbs_test::static_key;
use serde_json::Value;

fn kbs_test() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kbs-test"))
}

/// A running server; ended when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut child = kbs_test()
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let Some(url) = line.trim_end().strip_prefix("listening on ") else {
            let mut messages = String::new();
            child.stderr.unwrap().read_to_string(&mut messages).unwrap();
            panic!("{messages}");
        };
        Self {
            url: url.to_owned(),
            child,
        }
    }

    /// Ends it with SIGTERM; its messages, and whether it ended well.
    fn stop(mut self) -> (String, bool) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        self.ended()
    }

    /// Waits until it ends by itself.
    fn ended(&mut self) -> (String, bool) {
        let status = self.child.wait().unwrap();
        let mut messages = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut messages).unwrap();
        (messages, status.success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A database of the test's own.
struct Db {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Db {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kbs.db");
        Self { dir, path }
    }

    fn arg(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> Output {
        kbs_test()
            .args(args)
            .args(["--db", self.arg()])
            .output()
            .unwrap()
    }

    /// What a command that succeeds prints: standard output and standard error.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> (String, String) {
        let output = self.run(args);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{args:?}: {err}");
        (out, err)
    }

    /// What a command that fails says.
    #[track_caller]
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?}");
        texts(&output).1
    }

    fn register(&self, more: &[&str]) {
        let args = [
            &[
                "register",
                DEFAULT,
                "--secret",
                SECRET,
                "--any-measurement",
                "--allow-sample",
            ],
            more,
        ]
        .concat();
        self.ok(&args);
    }

    fn serve(&self, more: &[&str]) -> Server {
        Server::start(&[&["--db", self.arg()], more].concat())
    }

    fn ledger(&self) -> String {
        self.ok(&["ledger", "show", DEFAULT]).0
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn server_announces_itself_warns_and_stops_cleanly() {
    let server = Server::start(&["--secret", "00ff", "--allow-sample"]);
    let address = server.url.strip_prefix("http://").unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok());
    let (messages, success) = server.stop();
    assert!(success);
    for words in [
        "no --measurement given",
        "--allow-sample: sample evidence proves nothing",
        "has 2 bytes",
        "static key ",
    ] {
        assert!(messages.contains(words), "{messages}");
    }
    assert!(!messages.contains("00ff"));
}

#[test]
fn start_without_a_secret_is_refused() {
    let output = kbs_test()
        .args(["--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let messages = texts(&output).1;
    assert_eq!(messages.lines().count(), 1);
    assert!(messages.contains("no secret to release: pass --secret HEX"));
}

#[test]
fn taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = kbs_test()
        .args(["--secret", "00", "--listen", &address])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let messages = texts(&output).1;
    assert!(
        messages.contains(&format!("cannot listen on {address}")),
        "{messages}"
    );
}

/// A server that this fault kills while an SVSM reports its first opening: epoch 1, counter 5.
fn report_to_a_dying_server(db: &Db, fault: &str) -> (Svsm, String) {
    db.register(&["--ledger", "boot"]);
    let mut server = db.serve(&["--test-fault", fault]);
    let (mut svsm, _) = Svsm::boot(&server.url, DEFAULT).unwrap();
    let open = svsm.report("open", 1, 1, 5);
    let sealed = svsm.seal(&open);
    assert!(svsm.client.try_post("/svsm/report", &sealed).is_err());
    assert!(!server.ended().1);
    (svsm, open)
}

/// Another server, to which the SVSM turns without attesting again.
fn serve_again(db: &Db, mut svsm: Svsm) -> (Server, Svsm) {
    let server = db.serve(&[]);
    let cookie = svsm.client.cookie();
    svsm.client = svsm.client.moved(&server.url, &cookie);
    (server, svsm)
}

#[test]
fn report_stored_before_the_server_was_killed_is_acknowledged_later() {
    let db = Db::new();
    let (svsm, open) = report_to_a_dying_server(&db, "after-store");
    assert!(db.ledger().contains("epoch    1\ncounter  5\n"));

    let (_server, svsm) = serve_again(&db, svsm);
    assert_eq!(svsm.deliver(&open).unwrap()["epoch"], 1);
}

#[test]
fn vm_that_was_reset_in_the_same_gap_boots_again() {
    let db = Db::new();
    report_to_a_dying_server(&db, "after-store");

    // Its disk has epoch 1, and so says the ledger: nobody is locked out.
    let server = db.serve(&[]);
    let (mut svsm, told) = Svsm::boot(&server.url, DEFAULT).unwrap();
    assert_eq!((told.epoch, told.counter), (1, 5));
    let open = svsm.report("open", 1, 2, 6);
    svsm.deliver(&open).unwrap();
}

#[test]
fn report_not_stored_before_the_server_was_killed_is_stored_later() {
    let db = Db::new();
    let (svsm, open) = report_to_a_dying_server(&db, "before-store");
    assert!(db.ledger().contains("epoch    0\n"));

    let (_server, svsm) = serve_again(&db, svsm);
    svsm.deliver(&open).unwrap();
    assert!(db.ledger().contains("epoch    1\n"));
}

/// Kills the server at any moment while an SVSM reports commits as fast as it can.
#[test]
fn acknowledged_reports_survive_a_kill() {
    let db = Db::new();
    db.register(&["--ledger", "commit"]);
    let mut counter = 1;
    for round in 1..=8u64 {
        let mut server = db.serve(&[]);
        let (mut svsm, told) = Svsm::boot(&server.url, DEFAULT).unwrap();
        assert!(
            told.counter == counter - 1 || told.counter == counter,
            "{told:?}"
        );
        counter = told.counter;
        let open = svsm.report("open", 1, told.epoch + 1, counter);
        svsm.deliver(&open).unwrap();
        let mut acknowledged = 0;
        std::thread::scope(|scope| {
            let child = &mut server.child;
            scope.spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(20 + 17 * round));
                child.kill().unwrap();
            });
            loop {
                counter += 1;
                let commit = svsm.report("commit", 1, told.epoch + 1, counter);
                match svsm.client.try_post("/svsm/report", &svsm.seal(&commit)) {
                    Ok((200, _)) => acknowledged += 1,
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => break,
                }
            }
        });
        println!("round {round}: {acknowledged} commits acknowledged");
    }
}

#[test]
fn priming_is_used_up_even_if_the_secret_never_arrived() {
    let db = Db::new();
    db.register(&["--prime"]);
    db.ok(&["prime", DEFAULT]);
    let mut server = db.serve(&["--test-fault", "after-release"]);
    let mut svsm = Svsm::start(&server.url, libaproxy::v0_1::Tee::Sample);
    assert_eq!(svsm.send_sample(None).0, 200);
    let path = format!("/resource/{DEFAULT}");
    assert!(svsm.client.try_get(&path).is_err());
    assert!(!server.ended().1);

    let server = db.serve(&[]);
    let e = Svsm::boot(&server.url, DEFAULT).err().unwrap();
    refused(&e, 403, "is not primed");
}

#[test]
fn owner_primes_while_the_server_runs() {
    let db = Db::new();
    db.register(&["--prime"]);
    let audit = db.file("audit.jsonl");
    let server = db.serve(&["--audit", &audit]);
    let e = Svsm::boot(&server.url, DEFAULT).err().unwrap();
    refused(&e, 403, "not primed");
    db.ok(&["prime", DEFAULT, "--audit", &audit]);
    assert!(db.ok(&["list"]).0.contains("primed"));
    assert!(Svsm::boot(&server.url, DEFAULT).is_ok());
    assert!(Svsm::boot(&server.url, DEFAULT).is_err());
    db.ok(&["prime", DEFAULT]);
    db.ok(&["prime", DEFAULT, "--revoke"]);
    assert!(Svsm::boot(&server.url, DEFAULT).is_err());

    let text = std::fs::read_to_string(audit).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let refusals = events.iter().filter(|e| e["code"] == "not-primed").count();
    assert_eq!(refusals, 3);
    assert!(events.iter().any(|e| e["event"] == "admin.prime"));
}

#[test]
fn owner_accepts_an_older_disk_on_purpose() {
    let db = Db::new();
    db.register(&["--ledger", "boot"]);
    let server = db.serve(&[]);
    let (mut running, _) = Svsm::boot(&server.url, DEFAULT).unwrap();
    let open = running.report("open", 1, 7, 50);
    running.deliver(&open).unwrap();

    let audit = db.file("audit.jsonl");
    assert!(
        db.fails(&["ledger", "set", DEFAULT, "--epoch", "5"])
            .contains("--reason")
    );
    let set = [
        "ledger",
        "set",
        DEFAULT,
        "--epoch",
        "5",
        "--counter",
        "30",
        "--audit",
        &audit,
    ];
    let (_, said) = db.ok(&[&set[..], &["--reason", "restored the backup of Monday"]].concat());
    assert!(
        said.contains("LEDGER OF VOLUME default/sample/test CHANGED BY HAND"),
        "{said}"
    );
    let event: Value =
        serde_json::from_str(std::fs::read_to_string(&audit).unwrap().trim()).unwrap();
    assert_eq!(event["event"], "admin.ledger-set");
    assert_eq!(event["reason"], "restored the backup of Monday");
    assert_eq!(
        (&event["before"]["epoch"], &event["after"]["epoch"]),
        (&7.into(), &5.into())
    );

    // The VM that ran cannot write its history on; the backup boots.
    let commit = running.report("commit", 1, 7, 51);
    assert!(running.deliver(&commit).is_err());
    let (mut svsm, told) = Svsm::boot(&server.url, DEFAULT).unwrap();
    assert_eq!((told.epoch, told.counter), (5, 30));
    let open = svsm.report("open", 1, 6, 31);
    svsm.deliver(&open).unwrap();
}

#[test]
fn owner_lets_a_lost_disk_be_made_anew() {
    let db = Db::new();
    db.register(&["--ledger", "boot"]);
    let server = db.serve(&[]);
    let (mut svsm, _) = Svsm::boot(&server.url, DEFAULT).unwrap();
    let open = svsm.report("open", 1, 7, 50);
    svsm.deliver(&open).unwrap();
    db.ok(&[
        "ledger",
        "set",
        DEFAULT,
        "--state",
        "new",
        "--reason",
        "the disk is lost",
    ]);
    let (mut svsm, told) = Svsm::boot(&server.url, DEFAULT).unwrap();
    assert_eq!(told.state, libaproxy::v0_2::VolumeState::New);
    assert!(told.identity.is_none());
    assert_eq!((told.epoch, told.counter), (7, 0));
    let open = svsm.report("open", 2, 8, 3);
    svsm.deliver(&open).unwrap();
    assert!(db.ledger().contains(&"02".repeat(32)));
}

#[test]
fn change_that_cannot_be_logged_is_not_made() {
    let db = Db::new();
    db.register(&["--ledger", "boot"]);
    let set = [
        "ledger",
        "set",
        DEFAULT,
        "--epoch",
        "5",
        "--reason",
        "x",
        "--audit",
        "/dev/full",
    ];
    let said = db.fails(&set);
    assert!(said.contains("nothing was changed"), "{said}");
    assert!(db.ledger().contains("epoch    0\n"));
}

#[test]
fn volumes_are_registered_listed_changed_and_removed() {
    let db = Db::new();
    assert!(db.fails(&["list"]).contains("there is no database"));
    let said = db.fails(&["register", "a/b/c", "--any-measurement"]);
    assert!(said.contains("no secret"), "{said}");
    let said = db.fails(&["register", "a/b/c", "--generate-secret"]);
    assert!(said.contains("no measurement"), "{said}");
    let measurement = "ab".repeat(48);
    let register = [
        "register",
        "a/b/c",
        "--generate-secret",
        "--measurement",
        &measurement,
    ];
    db.ok(&register);
    assert!(db.fails(&register).contains("registered already"));
    assert!(
        db.fails(&["set", "x/y/z", "--prime"])
            .contains("is not registered")
    );
    assert!(
        db.fails(&["prime", "a/b/c"])
            .contains("has no clone protection")
    );

    let (_, said) = db.ok(&["set", "a/b/c", "--secret", SECRET, "--ledger", "commit"]);
    assert!(said.contains("generation 2"), "{said}");
    let (list, _) = db.ok(&["list"]);
    assert_eq!(
        list,
        "a/b/c  ledger=commit  generation=2  new epoch=0 counter=0 identity=none  releases=0  \n"
    );
    let (list, _) = db.ok(&["list", "--json"]);
    let value: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(value["policy"]["measurements"][0], measurement);
    assert!(!list.contains(SECRET));
    db.ok(&["remove", "a/b/c"]);
    assert_eq!(db.ok(&["list"]).0, "");
}

#[test]
fn public_key_is_exported_as_others_read_it() {
    let db = Db::new();
    let (pem, said) = db.ok(&["show-key"]);
    let path = db.file("key.pem");
    std::fs::write(&path, &pem).unwrap();
    let openssl = Command::new("openssl")
        .args(["pkey", "-pubin", "-outform", "der", "-in", &path])
        .output();
    // Without the tool, only the form can be checked.
    if let Ok(output) = openssl {
        use sha2::{Digest, Sha384};
        let fingerprint = hex::encode(Sha384::digest(&output.stdout));
        assert!(said.contains(&fingerprint), "{said}");
    }
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"));
    db.register(&[]);
    let exported = db.file("exported.pem");
    let server = db.serve(&["--public-key", &exported]);
    assert_eq!(std::fs::read_to_string(&exported).unwrap(), pem);
    let (svsm, _) = Svsm::boot(&server.url, DEFAULT).unwrap();
    assert!(static_key::verify(&svsm.server_key.unwrap(), b"", &[0; 96]).is_ok());
}

#[test]
fn signed_secret_verifies_under_the_owners_key() {
    let db = Db::new();
    db.ok(&["show-key"]);
    let sign = [
        "sign-secret",
        "--volume",
        "a/b/c",
        "--secret",
        SECRET,
        "--generation",
        "4",
    ];
    let (jws, said) = db.ok(&sign);
    assert!(said.contains("signed by "));
    let signed = libaproxy::v0_2::SignedSecret::recognise(jws.as_bytes());
    let signed = signed.unwrap().unwrap();
    let payload = signed.payload().unwrap();
    assert_eq!((&*payload.volume, payload.generation), ("a/b/c", 4));
    assert_eq!(hex::encode(&*payload.secret.0), SECRET);
    assert!(
        !jws.contains('\n'),
        "the resource is these bytes and no other"
    );
}

#[test]
fn https_serves_who_knows_the_certificate() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let file = |name: &str| vectors.join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("tls-cert.pem"), file("tls-key.pem"));
    let server = Server::start(&[
        "--secret",
        SECRET,
        "--allow-sample",
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
    ]);
    let address = server.url.strip_prefix("https://").unwrap().to_owned();
    let request = "GET /kbs/v0/auth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = tls_request(&address, Some(&certificate), request).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(
        tls_request(&address, None, request).is_err(),
        "unknown certificate"
    );
    // Plain HTTP gets nothing, and holds up nobody.
    let plain = Client::new(&format!("http://{address}"));
    assert!(plain.try_get("/auth").is_err());
    assert!(tls_request(&address, Some(&certificate), request).is_ok());
    assert!(server.stop().1);
}

/// One request over TLS, trusting only the certificate in `trusted`.
fn tls_request(
    address: &str,
    trusted: Option<&str>,
    request: &str,
) -> Result<String, std::io::Error> {
    use std::sync::Arc;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring,
    };

    let mut roots = RootCertStore::empty();
    if let Some(path) = trusted {
        roots
            .add(CertificateDer::from_pem_file(path).unwrap())
            .unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // A server may close without saying goodbye.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn help_is_for_newcomers() {
    let output = kbs_test().arg("--help").output().unwrap();
    let help = texts(&output).0;
    for words in [
        "Quick start",
        "register",
        "--allow-sample",
        "make-test-root",
        "KBS.md",
    ] {
        assert!(help.contains(words), "{words}");
    }
}
