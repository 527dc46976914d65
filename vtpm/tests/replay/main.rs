//! Recorded exchanges of real clients with the reference, replayed against the engine.
//!
//! What differs from run to run is substituted: handles, names, nonces, blobs, signatures,
//! and the HMACs that depend on them. Then the response codes must be the recorded ones, the
//! responses must have the recorded shape, and what depends on nothing random must be the
//! recorded bytes.

mod environment;
mod layout;
mod names;
mod sessions;
mod stream;
mod substitution;

use stream::{Event, Player};

fn replay(name: &str) {
    let path = format!(
        "{}/tests/vectors/streams/{name}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut commands = 0;
    let mut count = |event: Event<'_>| {
        if let Event::Command(locality, command) = event {
            assert!(locality <= 4 && command.len() >= 10);
            commands += 1;
        }
    };
    let mut player = Player::new(&mut count);
    for (line, text) in text.lines().enumerate() {
        let record = serde_json::from_str(text).unwrap();
        player.play(line + 1, &record);
    }
    let report = player.finish();
    assert!(commands >= report.replayed, "{name}: not all was replayed");
    println!(
        "{name}: {} exchanges replayed, {} skipped",
        report.replayed, report.skipped
    );
    for difference in &report.differences {
        println!("  {difference}");
    }
    assert!(
        report.differences.is_empty(),
        "{name}: {} differences",
        report.differences.len()
    );
    assert!(
        report.replayed > 9 * report.skipped,
        "{name}: too much was skipped"
    );
}

macro_rules! streams {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                replay($name);
            }
        )*
    };
}

streams! {
    firmware_and_linux_boot_over_tis: "boot-b1",
    firmware_and_linux_boot_over_crb: "boot-b3",
    seal_and_unseal_by_pcr_policy: "seal",
    quote_and_credential_activation: "attest",
    nv_indices: "nvx",
    systemd_cryptenroll: "sysd",
    clevis: "clevis",
    openssl_provider: "ossl",
    pkcs11: "p11",
}
