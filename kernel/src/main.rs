//! The bare-metal binary around the `svsm` library. On the host it is empty.

#![cfg_attr(target_os = "svsm", no_std, no_main)]

#[cfg(target_os = "svsm")]
svsm::entry_point!(svsm::boot::main);

#[cfg(target_os = "svsm")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    svsm::fatal::on_panic(info)
}

#[cfg(not(target_os = "svsm"))]
fn main() {
    eprintln!("this is the host build of a bare-metal program; there is nothing to run");
}
