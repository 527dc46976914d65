//! Links the bare-metal binary with the kernel's own memory layout.

fn main() {
    println!("cargo:rerun-if-changed=kernel.lds");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("svsm") {
        let dir = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo:rustc-link-arg-bins=-T{dir}/kernel.lds");
        println!("cargo:rustc-link-arg-bins=--build-id=none");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
