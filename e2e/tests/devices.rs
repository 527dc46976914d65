//! Hardware that differs from the usual.

use anyhow::Result;
use e2e::{KEY, OTHER_KEY, Servers, image};

const OPENED: &str = "[SVSM] persistent CocoonFs storage opened successfully";
const WROTE: &str = "[SVSM] persistence demo: successfully wrote updated boot counter";

#[test]
fn every_slot_can_hold_a_device_and_the_last_one_is_found() -> Result<()> {
    let servers = Servers::start()?;
    let mut guest = servers.guest();
    for n in 0..7 {
        let path = servers.path(&format!("{n}.img"));
        match n {
            0..=3 => image::blank(&path)?,
            4 | 5 => image::formatted(&path, OTHER_KEY)?,
            _ => image::formatted(&path, KEY)?,
        }
        guest = guest.image(path);
    }
    let boot = guest.boot()?;
    assert_eq!(boot.status, 0, "the log:\n{}", boot.log());
    for n in 0..7 {
        boot.assert_says(&[&format!("[SVSM] block device {n}: virtio-mmio at ")]);
    }
    boot.assert_says(&[
        "block device 6: CocoonFs image authenticates",
        OPENED,
        WROTE,
    ]);
    Ok(())
}

#[test]
fn a_cpu_without_a_random_source_is_refused() -> Result<()> {
    let servers = Servers::start()?;
    let boot = servers
        .guest()
        .qemu("-cpu")
        .qemu("max,-rdrand,-rdseed")
        .boot()?;
    boot.assert_stopped("no randomness: ");
    Ok(())
}

#[test]
fn a_guest_with_little_memory_boots_and_one_with_much_too() -> Result<()> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header(&state)?;
    for memory in ["64", "5G"] {
        let boot = servers
            .guest()
            .image(&state)
            .option("--memory")
            .option(memory)
            .boot()?;
        boot.assert_complete();
        boot.assert_says(&[OPENED, WROTE]);
    }
    Ok(())
}

#[test]
fn slots_that_the_host_lists_are_looked_at_instead_of_the_usual_ones() -> Result<()> {
    let servers = Servers::start()?;
    let (first, second) = (servers.path("first.img"), servers.path("second.img"));
    image::formatted(&first, KEY)?;
    image::formatted(&second, KEY)?;
    // One record of fw_cfg's etc/hardware-info: type, size, address of slot 1.
    let record: Vec<u8> = [0x1000u64, 8, 0xfeb0_0200]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect();
    let list = servers.path("hardware-info");
    std::fs::write(&list, record)?;
    let boot = servers
        .guest()
        .image(&first)
        .image(&second)
        .qemu("-fw_cfg")
        .qemu(format!("name=etc/hardware-info,file={}", list.display()))
        .boot()?;
    boot.assert_complete();
    boot.assert_says(&["block device 0: virtio-mmio at 0xfeb00200", OPENED]);
    assert!(!boot.log().contains("block device 1"), "{}", boot.log());
    Ok(())
}
