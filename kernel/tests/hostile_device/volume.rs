//! A volume on the driver on a device: the whole path, as the kernel runs it.

use std::sync::Arc;

use svsm::block::BlockDevice;
use svsm::persistence::{FileId, Namespace, Volume, VolumeError};

use super::fake::Device;
use super::{alone, erratic, good, try_open};

#[path = "../persistence/support.rs"]
#[allow(
    dead_code,
    reason = "shared with the scenario tests, which use more of it"
)]
mod support;

const IMAGE: usize = 256 << 10;

fn creation_header() -> Vec<u8> {
    let layout = support::project_layout();
    support::creation_header(IMAGE, 512, IMAGE as u64, &layout).snapshot()
}

fn mount(device: Device, behaviour: super::Behaviour) -> Option<impl Volume> {
    let (driver, _) = try_open(device, behaviour).ok()?;
    let devices: [Arc<dyn BlockDevice>; 1] = [Arc::new(driver)];
    svsm::persistence::open_first(
        &devices,
        &support::key(),
        &support::OsEntropy,
        svsm::persistence::FormatPolicy::Allow,
    )
}

fn file(n: u32) -> FileId {
    FileId::new(Namespace::System, n)
}

#[test]
fn files_come_back_from_an_honest_device() {
    let _alone = alone();
    let mut device = Device::new(IMAGE);
    device.disk = creation_header();
    let (driver, handle) = try_open(device, good()).unwrap();
    let driver: Arc<dyn BlockDevice> = Arc::new(driver);
    let open = |driver: &Arc<dyn BlockDevice>| {
        svsm::persistence::open_first(
            std::slice::from_ref(driver),
            &support::key(),
            &support::OsEntropy,
            svsm::persistence::FormatPolicy::Allow,
        )
        .expect("opens")
    };
    let volume = open(&driver);
    for n in 0..20 {
        support::write(
            &volume,
            file(n),
            &support::pattern(n.into(), 300 * n as usize),
        )
        .unwrap();
    }
    drop(volume);
    drop(driver);

    let mut device = Device::new(IMAGE);
    device.disk = handle.lock().unwrap().disk.clone();
    let volume = mount(device, good()).expect("opens again");
    for n in 0..20 {
        let expected = support::pattern(n.into(), 300 * n as usize);
        assert_eq!(support::read(&volume, file(n)), Some(expected));
    }
}

#[test]
fn files_on_an_erratic_device_are_right_or_refused() {
    let _alone = alone();
    let mut device = Device::new(IMAGE);
    device.disk = creation_header();
    let (driver, handle) = try_open(device, good()).unwrap();
    let volume = svsm::persistence::open_first(
        &[Arc::new(driver)],
        &support::key(),
        &support::OsEntropy,
        svsm::persistence::FormatPolicy::Allow,
    )
    .expect("formats");
    support::write(&volume, file(1), &support::pattern(1, 5000)).unwrap();
    drop(volume);
    let disk = handle.lock().unwrap().disk.clone();

    let (mut opened, mut right) = (0, 0);
    for seed in 0..300 {
        let mut device = Device::new(IMAGE);
        device.disk = disk.clone();
        let Some(volume) = mount(device, erratic(seed)) else {
            continue;
        };
        opened += 1;
        let mut current = 1;
        for next in 2..6 {
            match volume.read(file(1)) {
                Ok(data) => {
                    right += 1;
                    assert!(*data == support::pattern(current, 5000), "{seed}");
                }
                Err(VolumeError::DeviceFailed | VolumeError::OutcomeUnknown) => {}
                Err(error) => panic!("{seed}: {error}"),
            }
            if support::write(&volume, file(1), &support::pattern(next, 5000)).is_ok() {
                current = next;
            }
        }
    }
    assert!(opened > 0 && right > 0, "{opened} {right}");
}
