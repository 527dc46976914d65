//! Links the bare-metal binary with its own linker script.

fn main() {
    println!("cargo:rerun-if-changed=stage2.lds");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("svsm") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into());
        println!("cargo:rustc-link-arg-bin=stage2=-T{directory}/stage2.lds");
    }
}
