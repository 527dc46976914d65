//! Whatever the attestation server does, the SVSM gets an answer that names the cause.

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use common::{Key, Proxy, read_request};
use libaproxy::v0_1::{AttestationResponse, Tee};
use serde_json::{Value, json};

const NONCE: &str = r#"{"nonce":"AAECAwQFBgcICQoLDA0ODw==","extra-params":""}"#;
const TOKEN: &str = r#"{"token":"a.b.c"}"#;

/// A server that gives `answers[n]` to its n-th request, and the requests it got.
fn canned(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            requests.push(request_text(&stream));
            let _ = stream.write_all(&answer);
        }
        requests
    });
    (url, thread)
}

fn request_text(stream: &TcpStream) -> String {
    let (head, body) = read_request(stream);
    head + &String::from_utf8(body).unwrap()
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nSet-Cookie: kbs-session-id=42; \
         Expires=Fri, 01 Jan 2100 00:00:00 GMT\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What the SVSM is told when the server answers the negotiation with `answer`.
fn negotiation_error(answer: Vec<u8>) -> String {
    let (url, _server) = canned(vec![answer]);
    let proxy = Proxy::start(&url);
    let mut svsm = proxy.connect();
    svsm.send_text(r#"{"version":[0,1,0],"tee":"sample"}"#);
    let error = svsm.receive_error();
    proxy.lines.expect("tee sample: failed after", 1);
    error
}

/// The answer to the evidence when the server's later answers are `rest`.
fn attest(key: &Key, rest: Vec<Vec<u8>>) -> AttestationResponse {
    let (url, _server) = canned([vec![http("200 OK", NONCE)], rest].concat());
    let proxy = Proxy::start(&url);
    let mut svsm = proxy.connect();
    let negotiation = svsm.negotiate(Tee::Sample);
    svsm.send(&key.sample_request(&negotiation, None));
    let answer: AttestationResponse = svsm.receive();
    let outcome = if answer.success {
        "delivered"
    } else {
        "failed"
    };
    proxy.lines.expect(outcome, 1);
    answer
}

#[track_caller]
fn attest_error(rest: Vec<Vec<u8>>, words: &str) {
    let answer = attest(&Key::new(), rest);
    assert!(!answer.success && answer.secret.is_none() && answer.decryption.is_none());
    let error = answer.error.unwrap();
    assert!(error.contains(words), "{error}");
}

#[test]
fn server_that_is_down_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let proxy = Proxy::start(&url);
    let mut svsm = proxy.connect();
    for _ in 0..2 {
        svsm.send_text(r#"{"version":[0,1,0],"tee":"sample"}"#);
        let error = svsm.receive_error();
        assert!(error.contains(&format!("cannot reach the attestation server at {url}")));
        assert!(error.contains("is it running?"), "{error}");
    }
    proxy.lines.expect("is it running?", 2);
}

#[test]
fn server_that_hangs_up_is_named() {
    let error = negotiation_error(Vec::new());
    assert!(error.contains("attestation server"), "{error}");
    attest_error(vec![Vec::new()], "attestation server");
}

#[test]
fn status_500_is_passed_on() {
    for answer in [http("500 Oops", "<html>"), http("500 Oops", "")] {
        let error = negotiation_error(answer.clone());
        assert!(error.contains("/kbs/v0/auth with status 500"), "{error}");
        attest_error(vec![answer], "/kbs/v0/attest with status 500");
    }
    let token = http("200 OK", TOKEN);
    attest_error(
        vec![token, http("500 Oops", "")],
        "/kbs/v0/resource with status 500",
    );
}

#[test]
fn server_that_is_away_for_a_moment_is_asked_again() {
    let away = || http("503 Service Unavailable", "");
    let (url, server) = canned(vec![away(), Vec::new(), http("200 OK", NONCE)]);
    let mut svsm = Proxy::start(&url).connect();
    svsm.negotiate(Tee::Sample);
    let requests = server.join().unwrap();
    assert_eq!(requests.len(), 3);
    assert!(
        requests
            .iter()
            .all(|text| text.starts_with("POST /kbs/v0/auth"))
    );
}

#[test]
fn evidence_is_sent_once() {
    let away = || http("503 Service Unavailable", "");
    attest_error(vec![away()], "/kbs/v0/attest with status 503");
}

#[test]
fn refusal_is_passed_on_in_words() {
    let body = json!({"type": "https://x/errors/PolicyDeny", "detail": "not\u{1b}[2J today"});
    let refusal = http("401 Unauthorized", &body.to_string());
    attest_error(vec![refusal], "(401 PolicyDeny): not?[2J today");
}

#[test]
fn redirect_is_not_followed() {
    let redirect =
        b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let error = negotiation_error(redirect.to_vec());
    assert!(error.contains("with status 307"), "{error}");
}

#[test]
fn garbage_is_refused() {
    for garbage in [
        &b"\0\xff garbage \r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-x\r\n",
    ] {
        let error = negotiation_error(garbage.to_vec());
        assert!(error.contains("attestation server"), "{error}");
    }
    for body in [
        "",
        "garbage",
        "[]",
        "{}",
        r#"{"nonce":7,"extra-params":""}"#,
    ] {
        let error = negotiation_error(http("200 OK", body));
        assert!(
            error.contains("to /kbs/v0/auth is invalid"),
            "{body}: {error}"
        );
    }
    for (nonce, words) in [
        ("", "the nonce is not base64"),
        ("%", "the nonce is not base64"),
        ("AAE", "is not standard base64"),
    ] {
        let body = json!({"nonce": nonce, "extra-params": ""}).to_string();
        let error = negotiation_error(http("200 OK", &body));
        assert!(error.contains(words), "{nonce}: {error}");
    }
    attest_error(vec![http("200 OK", "{}")], "to /kbs/v0/attest is invalid");
    let token = || http("200 OK", TOKEN);
    attest_error(
        vec![token(), http("200 OK", "{}")],
        "to /kbs/v0/resource is invalid",
    );
    let jwe = json!({"protected": "%", "encrypted_key": "", "iv": "", "ciphertext": "", "tag": ""});
    attest_error(
        vec![token(), http("200 OK", &jwe.to_string())],
        "not base64url",
    );
}

#[test]
fn endless_answer_is_cut_off() {
    let body = format!("{{\"nonce\":\"{}\"}}", "A".repeat(200_000));
    let error = negotiation_error(http("200 OK", &body));
    assert!(error.contains("larger than"), "{error}");
}

/// Serves like [`canned`], then answers one more request so slowly that it never ends.
fn then_trickle(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&stream);
            let _ = stream.write_all(&answer);
        }
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        // One byte now and then: no single wait is long, together they are.
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    (url, thread)
}

#[test]
fn slow_server_is_given_up() {
    let (url, server) = then_trickle(vec![]);
    let mut svsm = Proxy::start(&url).connect();
    svsm.send_text(r#"{"version":[0,1,0],"tee":"sample"}"#);
    let error = svsm.receive_error();
    let words = "did not answer /kbs/v0/auth within 2 s";
    assert!(error.contains(words), "{error}");
    server.join().unwrap();

    let (url, server) = then_trickle(vec![http("200 OK", NONCE)]);
    let (mut svsm, key) = (Proxy::start(&url).connect(), Key::new());
    let negotiation = svsm.negotiate(Tee::Sample);
    svsm.send(&key.sample_request(&negotiation, None));
    let error = svsm.receive_error();
    let words = "did not answer /kbs/v0/attest within 3 s";
    assert!(error.contains(words), "{error}");
    server.join().unwrap();
}

#[test]
fn default_limits_leave_the_svsm_time_to_hear_the_cause() {
    let limits = aproxy::backend::kbs::ServerLimits::default();
    assert!(limits.connect < limits.challenge);
    assert!(limits.challenge < Duration::from_secs(10));
    assert!(2 * limits.decision < Duration::from_secs(60));
    assert!(limits.report < Duration::from_secs(30));
}

#[test]
fn requests_have_the_form_of_protocol_0_4_0() {
    let refusal = http("401 Unauthorized", "");
    let (url, server) = canned(vec![http("200 OK", NONCE), http("200 OK", TOKEN), refusal]);
    let proxy = Proxy::start(&url);
    let (mut svsm, key) = (proxy.connect(), Key::new());
    let negotiation = svsm.negotiate(Tee::Sample);
    assert_eq!(*negotiation.challenge, (0..16).collect::<Vec<u8>>());
    svsm.send(&key.sample_request(&negotiation, Some("ab")));
    svsm.receive_error();

    let requests = server.join().unwrap();
    let split = |n: usize| -> (&str, Value) {
        let (head, body) = requests[n].split_once("\r\n\r\n").unwrap();
        (head, serde_json::from_str(body).unwrap_or_default())
    };
    let (head, body) = split(0);
    assert!(head.starts_with("POST /kbs/v0/auth HTTP/1.1\r\n"));
    assert!(!head.to_lowercase().contains("\r\ncookie:"));
    let expected = json!({"version": "0.4.0", "tee": "sample", "extra-params": ""});
    assert_eq!(body, expected);

    let (head, body) = split(1);
    assert!(head.starts_with("POST /kbs/v0/attest HTTP/1.1\r\n"));
    assert!(
        head.to_lowercase()
            .contains("\r\ncookie: kbs-session-id=42")
    );
    let public = key.public();
    let report_data = key.report_data(&negotiation);
    let expected = json!({
        "init-data": null,
        "runtime-data": {
            "nonce": "AAECAwQFBgcICQoLDA0ODw==",
            "tee-pubkey": {
                "kty": "EC", "crv": "P-521", "alg": "ECDH-ES+A256KW",
                "x": BASE64_URL_SAFE_NO_PAD.encode(public.x),
                "y": BASE64_URL_SAFE_NO_PAD.encode(public.y),
            },
        },
        "tee-evidence": {
            "primary_evidence": {
                "svn": "1",
                "report_data": base64::prelude::BASE64_STANDARD.encode(report_data),
                "measurement": "ab",
            },
            "additional_evidence": "",
        },
    });
    assert_eq!(body, expected);

    let (head, _) = split(2);
    assert!(head.starts_with("GET /kbs/v0/resource/default/sample/test HTTP/1.1\r\n"));
    assert!(
        head.to_lowercase()
            .contains("\r\ncookie: kbs-session-id=42")
    );
}

#[test]
fn header_in_any_order_reaches_the_svsm_as_it_came() {
    // Spaces, another order, an unknown member: to serialise it again would change it.
    let epk = Key::new().public();
    let header = format!(
        "{{ \"epk\" : {{\"y\":\"{}\",\"x\":\"{}\",\"kty\":\"EC\",\"crv\":\"P-521\"}},\n\
         \"apz\":1e0, \"enc\":\"A256GCM\", \"alg\":\"ECDH-ES+A256KW\"}}",
        BASE64_URL_SAFE_NO_PAD.encode(&epk.y),
        BASE64_URL_SAFE_NO_PAD.encode(&epk.x)
    );
    let protected = BASE64_URL_SAFE_NO_PAD.encode(header);
    let jwe = json!({"protected": protected, "encrypted_key": "AQ", "iv": "Ag",
        "ciphertext": "Aw", "tag": "BA"});
    let answers = vec![http("200 OK", TOKEN), http("200 OK", &jwe.to_string())];
    let parts = attest(&Key::new(), answers).decryption.unwrap();
    assert_eq!(&*parts.aad, protected.as_bytes());
    assert_eq!(parts.epk, epk);
}
