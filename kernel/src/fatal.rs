//! The ways out when the kernel cannot go on.
//!
//! Each says in one line why, then ends the VM with an exit code of its own.

use crate::arch::backtrace;
use crate::arch::exceptions::{self, TrapFrame};
use crate::arch::percpu;
use crate::console;
use crate::mm::stack;
use crate::platform::{ExitCode, Platform};
use core::fmt::Display;
use core::panic::PanicInfo;
use spin::Once;

static PLATFORM: Once<&'static dyn Platform> = Once::new();

/// Names the platform to end on, and takes over all exceptions.
pub fn init(platform: &'static dyn Platform) {
    PLATFORM.call_once(|| platform);
    exceptions::on_fatal(on_exception);
}

fn exit(code: ExitCode) -> ! {
    match PLATFORM.get() {
        Some(platform) => platform.exit(code),
        None => crate::arch::cpu::triple_fault(),
    }
}

/// Ends the VM for a reason that is no bug.
pub fn stop(reason: impl Display) -> ! {
    log::error!("{reason}");
    exit(ExitCode::Fatal)
}

/// Ends the VM after a panic.
pub fn on_panic(info: &PanicInfo<'_>) -> ! {
    console::break_lock();
    log::error!(
        "Panic on CPU[{}]: {}",
        percpu::this().index(),
        info.message()
    );
    if let Some(location) = info.location() {
        log::error!("at {}:{}", location.file(), location.line());
    }
    report_backtrace(backtrace::frame_pointer());
    exit(ExitCode::Panic)
}

fn on_exception(frame: &TrapFrame) -> ! {
    console::break_lock();
    let cpu = percpu::this().index();
    log::error!("Exception on CPU[{cpu}]: {frame}");
    if frame.vector == u64::from(crate::arch::tables::vector::PF) {
        let address = exceptions::fault_address();
        log::error!("address {address:#018x}");
        if stack::is_overflow(address, frame.rsp) {
            log::error!("the kernel stack has overflowed");
        }
    }
    report_backtrace(frame.rbp);
    exit(ExitCode::Panic)
}

fn report_backtrace(frame_pointer: u64) {
    log::error!("backtrace:");
    backtrace::walk(frame_pointer, |address| log::error!("  [{address:#018x}]"));
}
