//! Which device is opened, what the log says, and that a skipped one stays as it is.

use std::sync::Arc;

use svsm::block::memory::{Fault, MemoryDevice};
use svsm::block::{BlockDevice, BlockError, Geometry};
use svsm::persistence::{FileId, FormatPolicy, MAX_FORMAT_BYTES, Namespace, open_first};

use crate::support::*;

const FILE: FileId = FileId::new(Namespace::Vtpm, 1);
const OPENED: &str = "persistent CocoonFs storage opened successfully";
const NONE: &str = "WARNING: no block device can be used, there is no persistent storage";
const USED_0: &str = "block device 0: CocoonFs image authenticates under the key, used";
const USED_1: &str = "block device 1: CocoonFs image authenticates under the key, used";

/// Looks for a volume on `devices`; asserts the log's lines and that no device but
/// `used` has changed or been written to.
fn expect(devices: &[&MemoryDevice], used: Option<usize>, lines: &[&str]) {
    expect_with(devices, FormatPolicy::Allow, used, lines);
}

fn expect_with(
    devices: &[&MemoryDevice],
    policy: FormatPolicy,
    used: Option<usize>,
    lines: &[&str],
) {
    let before: Vec<_> = devices
        .iter()
        .map(|device| {
            device.reset_counters();
            device.snapshot()
        })
        .collect();
    let (volume, logged) = logged(|| open_with(devices, &key(), policy));
    assert_eq!(logged, lines);
    assert_eq!(volume.is_some(), used.is_some());
    for (index, device) in devices.iter().enumerate() {
        if Some(index) != used {
            assert_eq!(device.counters().writes, 0, "device {index}");
            assert!(device.snapshot() == before[index], "device {index}");
        }
        if used.is_some_and(|used| index > used) {
            assert_eq!(device.counters().requests(), 0, "device {index}");
        }
    }
}

#[test]
fn without_devices_there_is_no_storage() {
    expect(
        &[],
        None,
        &["WARNING: no block device, there is no persistent storage"],
    );
}

#[test]
fn what_is_no_image_is_skipped() {
    let bytes = |at: usize, magic: &[u8]| {
        let mut data = vec![0; IMAGE];
        data[at..at + magic.len()].copy_from_slice(magic);
        data
    };
    let foreign = [
        vec![0; IMAGE],
        vec![0xff; IMAGE],
        pattern(1, IMAGE),
        // The magic numbers of ext4, btrfs, LUKS, XFS and a partition table.
        bytes(0x438, &[0x53, 0xef]),
        bytes(0x10040, b"_BHRfS_M"),
        bytes(0, b"LUKS\xba\xbe\x00\x02"),
        bytes(0, b"XFSB"),
        bytes(510, &[0x55, 0xaa]),
        // The magic of an image or creation header, and nothing behind it.
        bytes(0, b"COCOONFS"),
        bytes(0, b"CCFSMKFS"),
        vec![],
        vec![0; 512],
    ];
    for data in foreign {
        let device = MemoryDevice::from_bytes(data, 512);
        expect(
            &[&device],
            None,
            &["block device 0: blank or no CocoonFs image, skipped", NONE],
        );
    }
}

#[test]
fn a_real_ext4_file_system_is_skipped() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(4 << 20).unwrap();
    let made = ["mkfs.ext4", "/sbin/mkfs.ext4", "/usr/sbin/mkfs.ext4"]
        .iter()
        .find_map(|tool| {
            std::process::Command::new(tool)
                .args(["-q", "-F"])
                .arg(image.path())
                .status()
                .ok()
        });
    // Debian's essential package e2fsprogs; its magic is tested above in any case.
    let Some(made) = made else {
        eprintln!("no mkfs.ext4 here, nothing tested");
        return;
    };
    assert!(made.success());
    let device = MemoryDevice::from_bytes(std::fs::read(image.path()).unwrap(), 512);
    expect(
        &[&device],
        None,
        &["block device 0: blank or no CocoonFs image, skipped", NONE],
    );
}

#[test]
fn wrong_key_is_skipped_before_and_after_the_right_one() {
    let foreign = formatted(&other_key());
    let behind = formatted(&other_key());
    let right = formatted(&key());
    expect(
        &[&foreign, &right, &behind],
        Some(1),
        &[
            "WARNING: block device 0: CocoonFs image does not authenticate under the key, skipped",
            USED_1,
            OPENED,
        ],
    );
    expect(
        &[&foreign],
        None,
        &[
            "WARNING: block device 0: CocoonFs image does not authenticate under the key, skipped",
            NONE,
        ],
    );
}

#[test]
fn the_first_of_two_right_ones_is_used() {
    let devices = [formatted(&key()), formatted(&key())];
    for (index, device) in devices.iter().enumerate() {
        let volume = open_device(device, &key()).unwrap();
        write(&volume, FILE, &[index as u8]).unwrap();
    }
    expect(&[&devices[0], &devices[1]], Some(0), &[USED_0, OPENED]);
    let volume = open(&[&devices[0], &devices[1]], &key()).unwrap();
    assert_eq!(read(&volume, FILE), Some(vec![0]));
}

#[test]
fn a_creation_header_before_a_right_one_is_formatted_and_used() {
    let new = creation_header(IMAGE, 512, IMAGE as u64, &project_layout());
    let right = formatted(&key());
    expect(
        &[&new, &right],
        Some(0),
        &[
            "block device 0: CocoonFs creation header, formatting it",
            OPENED,
        ],
    );
    expect(&[&new, &right], Some(0), &[USED_0, OPENED]);
}

#[test]
fn a_creation_header_is_skipped_where_formatting_is_denied() {
    let new = creation_header(IMAGE, 512, IMAGE as u64, &project_layout());
    let right = formatted(&key());
    expect_with(
        &[&new, &right],
        FormatPolicy::Deny,
        Some(1),
        &[
            "WARNING: block device 0: CocoonFs creation header, formatting is not permitted, skipped",
            USED_1,
            OPENED,
        ],
    );
}

#[test]
fn a_truncated_image_is_skipped() {
    let whole = formatted(&key()).snapshot();
    for bytes in [IMAGE - 512, IMAGE / 2] {
        let device = MemoryDevice::from_bytes(whole[..bytes].to_vec(), 512);
        let line = format!(
            "WARNING: block device 0: truncated: the image needs {IMAGE} bytes, the device has {bytes}, skipped"
        );
        expect(&[&device], None, &[&line, NONE]);
    }
    // Not even all that is read first is whole.
    for bytes in [512, 1024, 4096, 16384] {
        let device = MemoryDevice::from_bytes(whole[..bytes].to_vec(), 512);
        let line = format!(
            "WARNING: block device 0: truncated: the image reaches beyond the {bytes} bytes of the device, skipped"
        );
        expect(&[&device], None, &[&line, NONE]);
    }
}

#[test]
fn an_image_on_a_larger_device_opens() {
    let mut bytes = formatted(&key()).snapshot();
    bytes.resize(2 * IMAGE, 0x77);
    let device = MemoryDevice::from_bytes(bytes, 512);
    expect(&[&device], Some(0), &[USED_0, OPENED]);
}

#[test]
fn a_creation_header_for_more_than_the_device_is_skipped() {
    let device = creation_header(IMAGE, 512, 8 * IMAGE as u64, &project_layout());
    let line = format!(
        "WARNING: block device 0: CocoonFs creation header for {} bytes, the device has {IMAGE}, skipped",
        8 * IMAGE
    );
    expect(&[&device], None, &[&line, NONE]);
}

#[test]
fn a_creation_header_for_less_than_the_device_is_followed() {
    let device = creation_header(2 * IMAGE, 512, IMAGE as u64, &project_layout());
    expect(
        &[&device],
        Some(0),
        &[
            "block device 0: CocoonFs creation header, formatting it",
            OPENED,
        ],
    );
    expect(&[&device], Some(0), &[USED_0, OPENED]);
}

#[test]
fn a_creation_header_may_not_ask_for_too_much() {
    // A huge device need not exist to be claimed.
    let huge = 2 * MAX_FORMAT_BYTES;
    let device = creation_header(IMAGE, 512, huge, &project_layout());
    let line = format!(
        "WARNING: block device 0: CocoonFs creation header for {huge} bytes, the device has {IMAGE}, skipped"
    );
    expect(&[&device], None, &[&line, NONE]);

    let device = creation_header(
        4 * IMAGE,
        512,
        4 * IMAGE as u64,
        &layout(512, 512, 128 << 10, 512),
    );
    expect(
        &[&device],
        None,
        &[
            "WARNING: block device 0: CocoonFs creation header asks for blocks or nodes of more than 65536 bytes, skipped",
            NONE,
        ],
    );
}

/// A device that claims to be larger than what it holds.
struct Inflated(MemoryDevice, u64);

impl BlockDevice for Inflated {
    fn geometry(&self) -> Geometry {
        Geometry {
            block_count: self.1 / 512,
            ..self.0.geometry()
        }
    }

    fn read(&self, block: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.0.read(block, buffer)
    }

    fn write(&self, block: u64, data: &[u8]) -> Result<(), BlockError> {
        self.0.write(block, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.0.flush()
    }
}

#[test]
fn a_creation_header_for_more_than_the_limit_is_skipped() {
    for image in [MAX_FORMAT_BYTES + (1 << 20), 1 << 40] {
        let held = creation_header(IMAGE, 512, image, &project_layout());
        held.reset_counters();
        let device: Arc<dyn BlockDevice> = Arc::new(Inflated(held.clone(), 1 << 41));
        let (volume, lines) =
            logged(|| open_first(&[device], &key(), &OsEntropy, FormatPolicy::Allow));
        assert!(volume.is_none());
        let line = format!(
            "WARNING: block device 0: CocoonFs creation header for {image} bytes, the limit is {MAX_FORMAT_BYTES}, skipped"
        );
        assert_eq!(lines, [line.as_str(), NONE]);
        assert_eq!(held.counters().writes, 0);
    }
}

#[test]
fn a_read_only_device_is_skipped() {
    let device = formatted(&key()).read_only();
    expect(
        &[&device],
        None,
        &["WARNING: block device 0: read-only, skipped", NONE],
    );
    let device = creation_header(IMAGE, 512, IMAGE as u64, &project_layout()).read_only();
    expect(
        &[&device],
        None,
        &["WARNING: block device 0: read-only, skipped", NONE],
    );
}

#[test]
fn a_device_that_makes_nothing_durable_is_skipped() {
    let device = formatted(&key()).volatile();
    expect(
        &[&device],
        None,
        &[
            "WARNING: block device 0: no flush command and no announced write-through, nothing would be durable, skipped",
            NONE,
        ],
    );
}

#[test]
fn a_device_that_writes_through_is_used_and_never_flushed() {
    let device = formatted(&key()).write_through();
    device.reset_counters();
    expect(
        &[&device],
        Some(0),
        &[
            USED_0,
            "WARNING: block device 0: no flush command, its write-through is relied on",
            OPENED,
        ],
    );
    let volume = open_device(&device, &key()).unwrap();
    write(&volume, FILE, b"data").unwrap();
    assert_eq!(device.counters().flushes, 0);
    assert_eq!(
        read(&reopen(device.snapshot(), &key()).unwrap(), FILE),
        Some(b"data".to_vec())
    );
}

#[test]
fn blocks_larger_than_those_of_the_image_are_skipped() {
    let line =
        "WARNING: block device 0: 4096-byte blocks, the image has 512-byte I/O blocks, skipped";
    let image = MemoryDevice::from_bytes(formatted(&key()).snapshot(), 4096);
    expect(&[&image], None, &[line, NONE]);
    let new = creation_header(IMAGE, 512, IMAGE as u64, &project_layout()).snapshot();
    let new = MemoryDevice::from_bytes(new, 4096);
    expect(&[&new], None, &[line, NONE]);
}

#[test]
fn an_image_with_4k_blocks_opens_on_4k_and_512_byte_devices() {
    let device = formatted_as(IMAGE, 4096, &layout(512, 4096, 4096, 4096), &key());
    expect(&[&device], Some(0), &[USED_0, OPENED]);
    let small_blocks = MemoryDevice::from_bytes(device.snapshot(), 512);
    expect(&[&small_blocks], Some(0), &[USED_0, OPENED]);
}

#[test]
fn layouts_other_than_the_project_s_open() {
    for (allocation, io, node, data) in [
        (128, 512, 1024, 512),
        (128, 512, 512, 1024),
        (512, 4096, 4096, 512),
        (1024, 1024, 2048, 4096),
        (4096, 4096, 4096, 4096),
    ] {
        let layout = layout(allocation, io, node, data);
        let device = formatted_as(2 * IMAGE, 512, &layout, &key());
        expect(&[&device], Some(0), &[USED_0, OPENED]);
        let volume = open_device(&device, &key()).unwrap();
        write(&volume, FILE, &pattern(3, 5000)).unwrap();
        drop(volume);
        let volume = open_device(&device, &key()).unwrap();
        assert_eq!(read(&volume, FILE), Some(pattern(3, 5000)));
    }
}

#[test]
fn odd_block_sizes_are_skipped() {
    for block_size in [256, 131072] {
        let device = MemoryDevice::new(IMAGE, block_size);
        let line =
            format!("WARNING: block device 0: unusable block size of {block_size} bytes, skipped");
        expect(&[&device], None, &[&line, NONE]);
    }
}

#[test]
fn a_device_that_fails_to_read_is_skipped() {
    let right = formatted(&key());
    let broken = formatted(&key());
    let mut failed = 0;
    for index in 0.. {
        broken.fail(Fault::From(index, BlockError::TimedOut));
        let before = broken.snapshot();
        let (volume, lines) = logged(|| open(&[&broken, &right], &key()));
        assert!(volume.is_some());
        assert!(broken.snapshot() == before);
        if lines[0] == USED_0 {
            break;
        }
        failed += 1;
        assert_eq!(
            lines,
            [
                "WARNING: block device 0: I/O error while reading: device did not answer in time, skipped",
                USED_1,
                OPENED
            ]
        );
    }
    assert!(failed >= 2, "{failed}");
    broken.fail(Fault::Never);
    expect(&[&broken], Some(0), &[USED_0, OPENED]);
}

#[test]
fn a_failed_large_read_costs_nothing_but_itself() {
    for index in 0..2 {
        let device = formatted(&key());
        device.fail(Fault::Once(index, BlockError::Io));
        expect(&[&device], Some(0), &[USED_0, OPENED]);
    }
}

/// A device with a block that cannot be read.
struct BadBlock(MemoryDevice, u64);

impl BlockDevice for BadBlock {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn read(&self, block: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        if (block..block + (buffer.len() / 512) as u64).contains(&self.1) {
            return Err(BlockError::Io);
        }
        self.0.read(block, buffer)
    }

    fn write(&self, block: u64, data: &[u8]) -> Result<(), BlockError> {
        self.0.write(block, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.0.flush()
    }
}

#[test]
fn an_unreadable_block_costs_only_what_needs_it() {
    let whole = formatted(&key());
    let (mut opened, mut refused) = (0, 0);
    for block in 0..256 {
        let device: Arc<dyn BlockDevice> = Arc::new(BadBlock(whole.clone(), block));
        let (volume, lines) =
            logged(|| open_first(&[device], &key(), &OsEntropy, FormatPolicy::Allow));
        match volume {
            Some(_) => opened += 1,
            None => {
                refused += 1;
                assert_eq!(
                    lines,
                    [
                        "WARNING: block device 0: I/O error while reading: device reported an I/O error, skipped",
                        NONE
                    ]
                );
            }
        }
    }
    assert!(opened >= 200 && refused >= 5, "{opened} {refused}");
}

#[test]
fn an_interrupted_formatting_is_taken_up_again() {
    const FORMATTING: &str = "block device 0: CocoonFs creation header, formatting it";
    let mut interrupted = 0;
    for index in 0.. {
        let device = creation_header(IMAGE, 512, IMAGE as u64, &project_layout());
        device.fail(Fault::From(index, BlockError::Io));
        let (volume, lines) = logged(|| open_device(&device, &key()));
        if volume.is_some() {
            assert_eq!(lines, [FORMATTING, OPENED]);
            break;
        }
        interrupted += 1;
        if lines.len() == 3 {
            assert_eq!(lines[0], FORMATTING);
            assert_eq!(
                lines[1],
                "WARNING: block device 0: formatting failed: device reported an I/O error, skipped"
            );
        }
        device.fail(Fault::Never);
        let volume = open_device(&device, &key()).expect("opens after the interruption");
        write(&volume, FILE, b"works").unwrap();
    }
    assert!(interrupted >= 10, "{interrupted}");
}

#[test]
fn damaged_headers_are_told_from_wrong_keys_or_skipped() {
    let whole = formatted(&key()).snapshot();
    // Every byte of the headers: opens only where the byte does not matter.
    for at in 0..1024 {
        let device = MemoryDevice::from_bytes(whole.clone(), 512);
        device.tamper(|bytes| bytes[at] ^= 0x01);
        let before = device.snapshot();
        let (volume, lines) = logged(|| open_device(&device, &key()));
        if volume.is_none() {
            assert_eq!(lines.len(), 2, "{at}: {lines:?}");
            assert!(lines[0].ends_with(", skipped"), "{at}: {lines:?}");
            assert!(device.snapshot() == before, "{at}");
        } else {
            // Padding behind the mutable header.
            assert!(at >= 512 + 112, "{at}");
        }
    }
}
