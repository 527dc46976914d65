//! What an SVSM sends to the proxy: the messages and the framing of libaproxy. What
//! is accepted must survive being written and read again.

#![no_main]

use libaproxy::frame;
use libaproxy::v0_1::{
    AttestationRequest, AttestationResponse, NegotiationRequest, NegotiationResponse,
};
use libaproxy::v0_2;
use libfuzzer_sys::fuzz_target;

macro_rules! round_trip {
    ($message:ty, $json:expr) => {
        if let Ok(message) = frame::decode::<$message>($json) {
            let framed = frame::encode(&message).expect("what was read can be written");
            let (header, json) = framed.split_at(frame::HEADER_LEN);
            let header = header.try_into().expect("the header has its length");
            assert_eq!(frame::payload_len(header), Ok(json.len()));
            let again: $message = frame::decode(json).expect("what was written can be read");
            assert_eq!(message, again);
        }
    };
}

fuzz_target!(|json: &[u8]| {
    let _ = libaproxy::requested_version(json);
    round_trip!(NegotiationRequest, json);
    round_trip!(NegotiationResponse, json);
    round_trip!(AttestationRequest, json);
    round_trip!(AttestationResponse, json);
    round_trip!(v0_2::NegotiationResponse, json);
    round_trip!(v0_2::Refusal, json);
    round_trip!(v0_2::AttestationRequest, json);
    round_trip!(v0_2::AttestationResponse, json);
    round_trip!(v0_2::ReportRequest, json);
    round_trip!(v0_2::ReportResponse, json);
    round_trip!(v0_2::ReportBody, json);
    round_trip!(v0_2::AckBody, json);
});
