//! Block devices that are not the volume: each is named in the log, left as it was
//! where it is not ours, and the boot goes on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use e2e::{Boot, Disk, KEY, OTHER_KEY, Servers, image};

const OPENED: &str = "[SVSM] persistent CocoonFs storage opened successfully";
const FIRST: &str = "[SVSM] persistence demo: no boot counter found yet";
const WROTE: &str = "[SVSM] persistence demo: successfully wrote updated boot counter";

/// Files that a boot leaves: token, boot counter, freshness record.
const FILES: usize = 3;

/// Images whose bytes must not change.
struct Untouched(Vec<(PathBuf, Vec<u8>)>);

impl Untouched {
    fn of(images: &[&Path]) -> Result<Self> {
        let read = |image: &&Path| Ok((image.to_path_buf(), fs::read(image)?));
        Ok(Self(images.iter().map(read).collect::<Result<_>>()?))
    }

    #[track_caller]
    fn assert(&self) -> Result<()> {
        for (image, before) in &self.0 {
            assert!(fs::read(image)? == *before, "{} changed", image.display());
        }
        Ok(())
    }
}

/// The boot went to its end without a volume and said so.
#[track_caller]
fn assert_volatile(boot: &Boot) {
    assert_eq!(boot.status, 0, "the log:\n{}", boot.log());
    boot.assert_says(&["[SVSM] attestation successful", "no persistent storage"]);
    boot.assert_never_says(OPENED);
    boot.assert_never_says(WROTE);
}

#[test]
fn without_a_block_device_the_log_says_so() -> Result<()> {
    let servers = Servers::start()?;
    let boot = servers.guest().boot()?;
    assert_volatile(&boot);
    Ok(())
}

#[test]
fn a_blank_device_is_skipped_and_left_alone() -> Result<()> {
    let servers = Servers::start()?;
    let blank = servers.path("blank.img");
    image::blank(&blank)?;
    let untouched = Untouched::of(&[&blank])?;
    let boot = servers.guest().image(&blank).boot()?;
    assert_volatile(&boot);
    boot.assert_says(&["block device 0"]);
    untouched.assert()
}

#[test]
fn a_foreign_filesystem_is_skipped_and_left_alone() -> Result<()> {
    let servers = Servers::start()?;
    let foreign = servers.path("foreign.img");
    image::foreign(&foreign)?;
    let untouched = Untouched::of(&[&foreign])?;
    let boot = servers.guest().image(&foreign).boot()?;
    assert_volatile(&boot);
    untouched.assert()
}

#[test]
fn an_image_under_another_key_before_the_right_one_is_skipped() -> Result<()> {
    let servers = Servers::start()?;
    let (other, right) = (servers.path("other.img"), servers.path("right.img"));
    image::formatted(&other, OTHER_KEY)?;
    image::formatted(&right, KEY)?;
    let untouched = Untouched::of(&[&other])?;
    let boot = servers.guest().image(&other).image(&right).boot()?;
    assert_eq!(boot.status, 0, "the log:\n{}", boot.log());
    boot.assert_says(&["block device 0", OPENED, FIRST, WROTE]);
    assert_eq!(image::inodes(&right, KEY)?.len(), FILES);
    untouched.assert()
}

#[test]
fn an_image_under_another_key_after_the_right_one_is_not_looked_into() -> Result<()> {
    let servers = Servers::start()?;
    let (other, right) = (servers.path("other.img"), servers.path("right.img"));
    image::formatted(&other, OTHER_KEY)?;
    image::formatted(&right, KEY)?;
    let untouched = Untouched::of(&[&other])?;
    let boot = servers.guest().image(&right).image(&other).boot()?;
    boot.assert_complete();
    boot.assert_says(&[OPENED, FIRST, WROTE]);
    assert_eq!(image::inodes(&right, KEY)?.len(), FILES);
    untouched.assert()
}

#[test]
fn of_two_right_images_the_first_is_used() -> Result<()> {
    let servers = Servers::start()?;
    let (first, second) = (servers.path("first.img"), servers.path("second.img"));
    image::formatted(&first, KEY)?;
    image::formatted(&second, KEY)?;
    let untouched = Untouched::of(&[&second])?;
    let boot = servers.guest().image(&first).image(&second).boot()?;
    boot.assert_complete();
    boot.assert_says(&[OPENED, FIRST, WROTE]);
    assert_eq!(image::inodes(&first, KEY)?.len(), FILES);
    untouched.assert()
}

#[test]
fn a_creation_header_before_the_right_image_is_formatted_and_used() -> Result<()> {
    let servers = Servers::start()?;
    let (header, right) = (servers.path("header.img"), servers.path("right.img"));
    image::creation_header(&header)?;
    image::formatted(&right, KEY)?;
    let untouched = Untouched::of(&[&right])?;
    let boot = servers.guest().image(&header).image(&right).boot()?;
    assert_eq!(boot.status, 0, "the log:\n{}", boot.log());
    boot.assert_says(&[OPENED, FIRST, WROTE]);
    assert_eq!(image::inodes(&header, KEY)?.len(), FILES);
    untouched.assert()
}

#[test]
fn a_creation_header_after_the_right_image_stays_one() -> Result<()> {
    let servers = Servers::start()?;
    let (header, right) = (servers.path("header.img"), servers.path("right.img"));
    image::creation_header(&header)?;
    image::formatted(&right, KEY)?;
    let untouched = Untouched::of(&[&header])?;
    let boot = servers.guest().image(&right).image(&header).boot()?;
    boot.assert_complete();
    boot.assert_says(&[OPENED, FIRST, WROTE]);
    untouched.assert()
}

#[test]
fn a_truncated_image_is_refused_and_the_next_one_used() -> Result<()> {
    let servers = Servers::start()?;
    let right = servers.path("right.img");
    image::formatted(&right, KEY)?;
    // Nothing behind the header; half of it; too short for a header.
    for size in [1 << 20, 64 << 10, 4096, 512] {
        let cut = servers.path(&format!("cut-{size}.img"));
        image::formatted(&cut, KEY)?;
        image::truncate(&cut, size)?;
        let untouched = Untouched::of(&[&cut])?;
        let boot = servers.guest().image(&cut).image(&right).boot()?;
        assert_eq!(boot.status, 0, "{size}: the log:\n{}", boot.log());
        boot.assert_says(&["block device 0", OPENED, WROTE]);
        untouched.assert()?;
    }
    Ok(())
}

#[test]
fn a_read_only_device_is_not_written_and_the_log_says_why() -> Result<()> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::formatted(&state, KEY)?;
    let untouched = Untouched::of(&[&state])?;
    let boot = servers.guest().disk(Disk::new(&state).read_only()).boot()?;
    assert_eq!(boot.status, 0, "the log:\n{}", boot.log());
    boot.assert_says(&["read-only"]);
    boot.assert_never_says(WROTE);
    untouched.assert()
}

#[test]
fn a_read_only_device_does_not_hide_the_right_image_behind_it() -> Result<()> {
    let servers = Servers::start()?;
    let (first, right) = (servers.path("first.img"), servers.path("right.img"));
    image::creation_header(&first)?;
    image::formatted(&right, KEY)?;
    let untouched = Untouched::of(&[&first])?;
    let boot = servers
        .guest()
        .disk(Disk::new(&first).read_only())
        .image(&right)
        .boot()?;
    assert_eq!(boot.status, 0, "the log:\n{}", boot.log());
    boot.assert_says(&["read-only", OPENED, WROTE]);
    untouched.assert()
}

#[test]
fn a_device_that_fails_reads_is_skipped() -> Result<()> {
    let servers = Servers::start()?;
    let (broken, right) = (servers.path("broken.img"), servers.path("right.img"));
    image::formatted(&broken, KEY)?;
    image::formatted(&right, KEY)?;
    let untouched = Untouched::of(&[&broken])?;
    let boot = servers
        .guest()
        .disk(Disk::new(&broken).failing("read_aio"))
        .image(&right)
        .boot()?;
    assert_eq!(boot.status, 0, "the log:\n{}", boot.log());
    boot.assert_says(&["block device 0", OPENED, WROTE]);
    untouched.assert()
}

#[test]
fn a_device_that_fails_writes_loses_nothing() -> Result<()> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::formatted(&state, KEY)?;
    servers.guest().image(&state).boot()?.assert_complete();
    let untouched = Untouched::of(&[&state])?;

    let boot = servers
        .guest()
        .disk(Disk::new(&state).failing("write_aio"))
        .boot()?;
    boot.assert_says(&[OPENED, "[SVSM] ERROR: the attestation token is not kept"]);
    boot.assert_says(&["[SVSM] ERROR: persistence demo: "]);
    boot.assert_never_says(WROTE);
    assert!(
        matches!(boot.status, 0 | 1),
        "status {}; the log:\n{}",
        boot.status,
        boot.log()
    );
    untouched.assert()?;

    let boot = servers.guest().image(&state).boot()?;
    boot.assert_complete();
    boot.assert_says(&["boot counter read back is 1", WROTE]);
    Ok(())
}

#[test]
fn a_device_with_4_kib_blocks_keeps_state() -> Result<()> {
    let servers = Servers::start()?;
    let state = servers.path("state.img");
    image::creation_header_4k(&state)?;
    for count in 0..3 {
        let boot = servers
            .guest()
            .disk(Disk::new(&state).block_size(4096))
            .boot()?;
        boot.assert_complete();
        boot.assert_says(&[OPENED, WROTE]);
        if count > 0 {
            boot.assert_says(&[&format!("boot counter read back is {count}")]);
        }
    }
    Ok(())
}

#[test]
fn an_image_for_smaller_blocks_than_the_device_has_is_handled() -> Result<()> {
    let servers = Servers::start()?;
    let (state, right) = (servers.path("state.img"), servers.path("right.img"));
    image::formatted(&state, KEY)?;
    image::formatted(&right, KEY)?;
    let boot = servers
        .guest()
        .disk(Disk::new(&state).block_size(4096))
        .image(&right)
        .boot()?;
    assert_eq!(boot.status, 0, "the log:\n{}", boot.log());
    boot.assert_says(&["block device 0", OPENED, WROTE]);
    Ok(())
}
