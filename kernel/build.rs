//! Links the bare-metal binary with the kernel's own memory layout, and leaves the names
//! of its features in the symbol table, where the image builder looks for those that must
//! not be in a production image.

fn main() {
    println!("cargo:rerun-if-changed=kernel.lds");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("svsm") {
        let dir = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo:rustc-link-arg-bins=-T{dir}/kernel.lds");
        println!("cargo:rustc-link-arg-bins=--build-id=none");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
        println!("cargo:rustc-link-arg-bins=--defsym=__svsm_features=0");
        for (name, _) in std::env::vars() {
            if let Some(feature) = name.strip_prefix("CARGO_FEATURE_")
                && feature != "DEFAULT"
            {
                let feature = feature.to_lowercase();
                println!("cargo:rustc-link-arg-bins=--defsym=__svsm_feature_{feature}=0");
            }
        }
    }
}
