//! What the attestation server sends to aproxy, over a real connection, and the evidence
//! that an SVSM sends to it: aproxy comes to an end, and its words are harmless.

#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use aproxy::backend::kbs::{Flavour, Kbs, ServerLimits};
use aproxy::backend::{Backend, BackendError};
use libaproxy::Version;
use libaproxy::v0_2::{Curve, Evidence, PublicKey, Tee, VolumeName};
use libfuzzer_sys::fuzz_target;

/// A server that gives the next answer to whoever connects.
struct Server {
    url: String,
    answers: Sender<Vec<u8>>,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (answers, queue) = channel::<Vec<u8>>();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
                // The request fits one read, or does not matter.
                let _ = stream.read(&mut [0; 8192]);
                let _ = stream.write_all(&queue.try_recv().unwrap_or_default());
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Server { url, answers }
    })
}

fn harmless(error: &BackendError) {
    let words = error.to_string();
    assert!(words.len() < 1000 && words.chars().all(|c| !c.is_control()));
    let _ = error.code();
}

/// An answer that is well formed as HTTP around `body`, or just `body`.
fn answer(body: &[u8], framed: bool) -> Vec<u8> {
    if !framed {
        return body.to_vec();
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nSet-Cookie: kbs-session-id=1\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fuzz_target!(|input: &[u8]| {
    // The first byte: whether the answers are HTTP, and which server. Then answers with a
    // zero byte between them, then the evidence.
    let Some((&kind, rest)) = input.split_first() else {
        return;
    };
    let mut parts = rest.splitn(4, |&byte| byte == 0);
    let server = server();
    let flavour = match kind & 2 {
        0 => Flavour::KbsTest,
        _ => Flavour::Kbs,
    };
    let limits = ServerLimits {
        connect: Duration::from_millis(200),
        challenge: Duration::from_millis(200),
        decision: Duration::from_millis(200),
        report: Duration::from_millis(200),
    };
    let resource = VolumeName::new("a/b/c").expect("a name");
    let kbs = Kbs::new(&server.url, flavour, resource, None, limits).expect("a server");
    for part in parts.by_ref().take(3) {
        let _ = server.answers.send(answer(part, kind & 1 == 0));
    }
    let evidence = Evidence::Snp {
        report: parts.next().unwrap_or_default().into(),
        certs_buf: (kind & 4 != 0).then(|| rest.into()),
    };
    let key = PublicKey {
        crv: Curve::P256,
        x: [1; 32].into(),
        y: [2; 32].into(),
    };
    match kbs.begin(Tee::Snp, Version::V0_2_0) {
        Err(error) => harmless(&error),
        Ok(mut exchange) => match exchange.attest(&evidence, &key) {
            Err(error) => harmless(&error),
            Ok(released) => {
                let _ = released.jwe.parts();
            }
        },
    }
});
