//! Version 0.2.0 against what other implementations made; where it comes from is told in
//! `libaproxy/tests/vectors/README.md`.

use crate::proxy::{Answer, Fixed, Proxy, attest_as, attest_live};
use crate::server::framed;
use libaproxy::v0_2::{Curve, Jwe, PublicKey, runtime_data};
use libaproxy::{frame, v0_2};
use serde_json::{Value, json};
use sha2::{Digest, Sha384};
use svsm::attest::{EvidenceError, EvidenceSource, Proof, ReportData, SampleEvidence, TrustPolicy};
use svsm::exec::block_on;

const VECTORS: &str = include_str!("../../../libaproxy/tests/vectors/exchange-0.2.0.json");
const TRUSTEE: &str = include_str!("../../../libaproxy/tests/vectors/trustee-jwe.json");

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// A report of the kind that the vectors were made with.
struct Canned(Vec<u8>);

impl EvidenceSource for Canned {
    fn tee(&self) -> v0_2::Tee {
        v0_2::Tee::Snp
    }

    fn evidence(&self, bound: &ReportData) -> Result<v0_2::Evidence, EvidenceError> {
        let mut report = self.0.clone();
        report[0x50..0x90].copy_from_slice(bound.padded());
        Ok(v0_2::Evidence::Snp {
            report: report.into(),
            certs_buf: None,
        })
    }
}

/// The source that makes the evidence of `exchange`, but for what it is bound to.
fn source(exchange: &Value) -> Box<dyn EvidenceSource> {
    if exchange["tee"] == "snp" {
        let report = &exchange["attestation_request"]["evidence"]["Snp"]["report"];
        let report: libaproxy::Base64 = serde_json::from_value(report.clone()).unwrap();
        let mut report = report.0;
        report[0x50..0x90].fill(0);
        return Box::new(Canned(report));
    }
    Box::new(match exchange["measurement"].as_str() {
        Some(text) => SampleEvidence::with_measurement(text.as_bytes()).unwrap(),
        None => SampleEvidence::default(),
    })
}

fn saying(exchange: &Value) -> Proxy<'static> {
    Proxy::saying(
        ["negotiation_response", "attestation_response"]
            .map(|answer| framed(exchange[answer].to_string().as_bytes())),
    )
}

#[test]
fn exchanges_of_an_independent_implementation_succeed() {
    let vectors = vectors();
    let exchanges = vectors["exchanges"].as_array().unwrap();
    assert!(exchanges.len() >= 19);
    for exchange in exchanges {
        let name = &exchange["name"];
        let mut proxy = saying(exchange);
        let any = TrustPolicy::trust_on_first_use();
        let entropy = Fixed(hex(&exchange["d"]));
        let done = attest_as(&mut proxy, &entropy, &*source(exchange), &any);
        let done = done.unwrap_or_else(|error| panic!("{name}: {error}"));

        let sent: Value = serde_json::from_slice(&proxy.requests[1]).unwrap();
        assert_eq!(sent, exchange["attestation_request"], "{name}");
        assert_eq!(done.secret.root_key(), hex(&exchange["secret"]), "{name}");
        let server = done.server.unwrap();
        assert_eq!(server.fingerprint.to_string(), exchange["fingerprint"]);
        let (volume, ledger) = (done.volume.unwrap(), done.ledger.unwrap());
        let release = &exchange["release"];
        let told = json!({
            "volume": volume.name, "generation": volume.generation,
            "state": ledger.state, "identity": ledger.identity,
            "epoch": ledger.epoch, "counter": ledger.counter, "ledger": ledger.mode,
        });
        assert_eq!(told, *release, "{name}");
        for (label, derived) in exchange["derived"].as_object().unwrap() {
            let label: &'static str = label.clone().leak();
            assert_eq!(done.secret.derive(label)[..], hex(derived), "{name}");
        }
    }
}

#[test]
fn hashed_and_signed_bytes_are_those_of_an_independent_implementation() {
    for exchange in vectors()["exchanges"].as_array().unwrap() {
        let request: v0_2::AttestationRequest =
            serde_json::from_value(exchange["attestation_request"].clone()).unwrap();
        assert_eq!(
            runtime_data(&request.nonce, &request.key),
            exchange["runtime_data"].as_str().unwrap()
        );
        let mut evidence = Sha384::new();
        v0_2::evidence_digest_input(&request.evidence, |bytes| evidence.update(bytes));
        let evidence_digest: [u8; 48] = evidence.finalize().into();
        assert_eq!(evidence_digest[..], hex(&exchange["evidence_digest"]));
        let response: v0_2::AttestationResponse =
            serde_json::from_value(exchange["attestation_response"].clone()).unwrap();
        let jwe = response.jwe.unwrap();
        let mut transcript = Vec::new();
        v0_2::Transcript {
            tee: request.tee,
            nonce: &request.nonce,
            key: &request.key,
            evidence_digest: &evidence_digest,
            volume: &v0_2::VolumeName::new("default/sample/test").unwrap(),
            jwe: &jwe.parts().unwrap(),
        }
        .feed(|bytes| transcript.extend_from_slice(bytes));
        assert_eq!(hex::encode(transcript), exchange["transcript"]);
    }
}

/// A proxy that gives `jwe` without proof of who made it, for a key on `crv`.
fn unauthenticated(nonce: &str, crv: &str, jwe: &Value) -> Proxy<'static> {
    let first = json!({
        "version": [0, 2, 0], "nonce": nonce,
        "binding": "kbs-runtime-data-sha384", "curves": [crv],
    });
    let second = json!({"success": true, "jwe": jwe, "token": null, "authentication": null});
    Proxy::saying([first, second].map(|json| framed(json.to_string().as_bytes())))
}

#[test]
fn resource_of_a_real_trustee_decrypts_on_each_curve() {
    let vectors: Vec<Value> = serde_json::from_str(TRUSTEE).unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let canonical = vector["runtime_data_canonical"].as_str().unwrap();
        let data: Value = serde_json::from_str(canonical).unwrap();
        let crv = vector["curve"].as_str().unwrap();
        let mut proxy = unauthenticated(data["nonce"].as_str().unwrap(), crv, &vector["jwe"]);
        let d = vector["d"].as_str().unwrap().trim_start_matches("0x");
        let any = TrustPolicy::trust_on_first_use();
        let entropy = Fixed(hex::decode(d).unwrap());
        let done = attest_as(&mut proxy, &entropy, &SampleEvidence::default(), &any).unwrap();
        assert_eq!(done.secret.root_key(), hex(&vector["plaintext"]), "{crv}");

        let sent: v0_2::AttestationRequest = frame::decode(&proxy.requests[1]).unwrap();
        let v0_2::Evidence::Sample { report_data, .. } = sent.evidence else {
            panic!("not sample evidence");
        };
        assert_eq!(report_data.0, hex(&vector["report_data_sha384"]), "{crv}");
        assert_eq!(runtime_data(&sent.nonce, &sent.key), canonical);
    }
}

#[test]
fn signed_secrets_of_an_independent_implementation_are_taken() {
    for vector in vectors()["signed_secrets"].as_array().unwrap() {
        let text = vector["jws"].as_str().unwrap().to_owned();
        let mut proxy = crate::server02::deciding(move |request, answer| {
            answer.authentication = None;
            answer.token = None;
            answer.jwe = Some(crate::server02::encrypt(&request.key, text.as_bytes()));
        });
        let any = TrustPolicy::trust_on_first_use();
        let entropy = Fixed(vec![0x5a; 47]);
        let done = attest_as(&mut proxy, &entropy, &SampleEvidence::default(), &any).unwrap();
        assert_eq!(done.secret.root_key(), hex(&vector["secret"]));
        let server = done.server.unwrap();
        assert_eq!(server.fingerprint.to_string(), vector["fingerprint"]);
        assert_eq!(server.proof, Proof::SignedSecret);
        let volume = done.volume.unwrap();
        assert_eq!(json!(volume.name), vector["volume"]);
        assert_eq!(json!(volume.generation), vector["generation"]);
    }
}

#[test]
fn reports_are_those_of_an_independent_implementation() {
    let vectors = vectors();
    let exchanges = vectors["exchanges"].as_array().unwrap();
    let exchange = exchanges
        .iter()
        .find(|exchange| exchange["name"] == "with a ledger")
        .unwrap();
    let reports = vectors["reports"].as_array().unwrap().clone();
    let mut proxy = saying(exchange);
    proxy.add(reports.into_iter().map(|report| {
        Box::new(move |json: &[u8]| {
            let sent: Value = serde_json::from_slice(json).unwrap();
            assert_eq!(sent, report["request"]);
            framed(report["response"].to_string().as_bytes())
        }) as Answer<'static>
    }));
    let any = TrustPolicy::trust_on_first_use();
    let entropy = Fixed(hex(&exchange["d"]));
    let done = attest_live(&mut proxy, &entropy, &*source(exchange), &any).unwrap();
    let mut reporter = done.reporter.unwrap();
    let identity = done.ledger.unwrap().identity.unwrap();
    block_on(reporter.open(identity, 8, 40)).unwrap();
    reporter.commit(u64::MAX).unwrap();
    block_on(reporter.settle()).unwrap();
    assert_eq!(reporter.count(), 2);
}

#[test]
fn every_curve_is_among_the_vectors() {
    for curve in Curve::PREFERENCE {
        let used = vectors()["exchanges"].as_array().unwrap().iter().any(|e| {
            let key: PublicKey =
                serde_json::from_value(e["attestation_request"]["key"].clone()).unwrap();
            let jwe: Jwe =
                serde_json::from_value(e["attestation_response"]["jwe"].clone()).unwrap();
            key.crv == curve && jwe.parts().unwrap().crv == curve
        });
        assert!(used, "{curve}");
    }
}
