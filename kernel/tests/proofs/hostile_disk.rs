//! The host changes the disk: bytes, the places of blocks, their age, the size of the
//! device, before the volume is opened and while it is.
//!
//! Whatever it does, a file that can be read has its contents. That a volume does not
//! open, or that a file is refused, is detection; that everything is as it was is
//! harmless.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use svsm::block::BlockDevice;
use svsm::block::memory::MemoryDevice;
use svsm::persistence::{CocoonVolume, Namespace, Volume, VolumeError};

use crate::device::{Event, Overlay, Recorder, SECTOR};
use crate::report::{Random, amount, record};
use crate::state::{FILES, State, file, go, open, read_all};
use crate::support::{self, pattern};

/// Size of the image in bytes.
const IMAGE: usize = 256 << 10;

/// What became of one change.
#[derive(Default)]
struct Tally {
    count: u64,
    /// The volume did not open, or something on it was refused.
    detected: u64,
    /// Wrong data, a wrong list, or a panic.
    undetected: Vec<String>,
}

impl Tally {
    fn add(&mut self, outcome: Result<bool, String>, what: impl FnOnce() -> String) {
        self.count += 1;
        match outcome {
            Ok(detected) => self.detected += u64::from(detected),
            Err(error) => self.undetected.push(format!("{}: {error}", what())),
        }
    }

    fn assert_all_detected(&self) {
        for line in self.undetected.iter().take(10) {
            println!("{line}");
        }
        assert!(
            self.undetected.is_empty(),
            "{} undetected",
            self.undetected.len()
        );
        println!(
            "{} changes, {} detected, all others harmless",
            self.count, self.detected
        );
    }
}

fn contents(round: u64) -> State {
    let sizes = [0, 1, 64, 511, 4096, 9000, 16384, 3000];
    let all = (0..FILES).zip(sizes);
    all.map(|(n, size)| (file(n), pattern(n as u64 + 100 * round, size)))
        .collect()
}

/// A volume in state `contents(1)` that was in `contents(0)` before, and one image for
/// each of the two.
fn images() -> [Arc<[u8]>; 2] {
    let layout = support::project_layout();
    let device = support::formatted_as(IMAGE, SECTOR, &layout, &support::key());
    let as_device: Arc<dyn BlockDevice> = Arc::new(device.clone());
    let mut from = State::new();
    [0, 1].map(|round| {
        let volume = open(&as_device).expect("opens");
        let to = contents(round);
        go(&volume, &from, &to).expect("there is space");
        read_all(&volume).expect("nobody interferes");
        from = to;
        drop(volume);
        device.snapshot().into()
    })
}

/// Reads all that is there file by file, and compares: whether something was refused,
/// or what is wrong. What is seen must be one of `allowed`, the same for all files.
fn compare(volume: &dyn Volume, allowed: &[&State]) -> Result<bool, String> {
    let mut refused = false;
    let mut possible: Vec<_> = allowed.to_vec();
    for n in 0..FILES {
        let seen = match volume.read(file(n)) {
            Ok(data) => Some(data.to_vec()),
            Err(VolumeError::NotFound) => None,
            Err(VolumeError::Internal) => return Err("internal error".to_owned()),
            Err(_) => {
                refused = true;
                continue;
            }
        };
        possible.retain(|state| state.get(&file(n)) == seen.as_ref());
        if possible.is_empty() {
            return Err(format!("file {n} is wrong"));
        }
    }
    for namespace in [Namespace::Vtpm, Namespace::Uefi, Namespace::System] {
        match volume.list(namespace) {
            Ok(listed) => {
                let mut files = possible[0]
                    .keys()
                    .filter(|file| file.namespace == namespace);
                if !files.by_ref().map(|file| file.index).eq(listed) {
                    return Err(format!("the list of {namespace} is wrong"));
                }
            }
            Err(VolumeError::Internal) => return Err("internal error".to_owned()),
            Err(_) => refused = true,
        }
    }
    Ok(refused)
}

fn guarded(action: impl FnOnce() -> Result<bool, String>) -> Result<bool, String> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| Err("panic".to_owned()))
}

/// Boots on `device` and compares; refusing to open is detection.
fn boot(device: Overlay, allowed: &[&State]) -> Result<bool, String> {
    let device: Arc<dyn BlockDevice> = Arc::new(device);
    guarded(|| open(&device).map_or(Ok(true), |volume| compare(&volume, allowed)))
}

/// Sectors that matter: those that a boot and reading everything look at.
fn used_sectors(image: &Arc<[u8]>) -> Vec<usize> {
    let device = Arc::new(Overlay::new(image));
    device.watch_reads();
    let as_device: Arc<dyn BlockDevice> = device.clone();
    let volume = open(&as_device).expect("opens");
    read_all(&volume).expect("nobody interferes");
    device.sectors_read()
}

#[test]
fn every_flipped_byte_is_harmless_or_detected() {
    let [_, image] = images();
    let expected = contents(1);
    let used = used_sectors(&image);
    let bytes = used.len() * SECTOR;
    // Evenly over the used part; an odd step visits every place in a sector.
    let step = amount(53, 1);
    let mut random = Random::new(11);
    let mut tally = Tally::default();
    for place in (0..bytes).step_by(step) {
        let (sector, offset) = (used[place / SECTOR], place % SECTOR);
        let device = Overlay::new(&image);
        let difference = 1 + random.below(255) as u8;
        device.change(sector, |data| data[offset] ^= difference);
        tally.add(boot(device, &[&expected]), || {
            format!("byte {offset} of sector {sector} ^ {difference:#04x}")
        });
    }
    record(&[
        ("flip.count", tally.count),
        ("flip.undetected", tally.undetected.len() as u64),
        ("flip.detected", tally.detected),
        ("flip.bytes_used", bytes as u64),
    ]);
    tally.assert_all_detected();
    assert!(
        tally.detected * 2 > tally.count,
        "most bytes are authenticated"
    );
    assert!(tally.count >= amount(500, 20_000), "{}", tally.count);
}

#[test]
fn bytes_flipped_under_an_unfinished_journal_are_harmless_or_detected() {
    // The power went when the journal was complete: the host can drop it, which shows
    // the old state, or leave it; nothing in between, and nothing else.
    let [old_image, _] = images();
    let (old, new) = (contents(0), contents(1));
    let device = Arc::new(Recorder::new(Overlay::new(&old_image)));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    let volume = open(&as_device).expect("opens");
    device.take();
    go(&volume, &old, &new).expect("there is space");
    read_all(&volume).expect("nobody interferes");
    drop(volume);
    // The journal is effective with the second flush; the disk before the rest.
    let cut = Overlay::new(&old_image);
    let mut flushes = 0;
    let mut touched = Vec::new();
    for event in device.take() {
        match event {
            Event::Flush => flushes += 1,
            Event::Write { sector, data } if flushes < 2 => {
                cut.put(sector, &data);
                touched.push(sector);
            }
            _ => {}
        }
    }
    let image = cut.flatten();
    let clean = Overlay::new(&image);
    assert_eq!(boot(clean, &[&new]), Ok(false), "the journal is effective");

    touched.extend(used_sectors(&image));
    touched.sort_unstable();
    touched.dedup();
    let mut random = Random::new(12);
    let mut tally = Tally::default();
    for place in (0..touched.len() * SECTOR).step_by(amount(97, 7)) {
        let (sector, offset) = (touched[place / SECTOR], place % SECTOR);
        let device = Overlay::new(&image);
        let difference = 1 + random.below(255) as u8;
        device.change(sector, |data| data[offset] ^= difference);
        tally.add(boot(device, &[&old, &new]), || {
            format!("byte {offset} of sector {sector} ^ {difference:#04x}")
        });
    }
    record(&[
        ("flip.journal_count", tally.count),
        ("flip.journal_undetected", tally.undetected.len() as u64),
    ]);
    tally.assert_all_detected();
    assert!(tally.detected > 0);
}

#[test]
fn bytes_flipped_in_a_creation_header_are_harmless_or_detected() {
    // Whatever comes of it: refused, or formatted to an empty volume.
    let layout = support::project_layout();
    let bytes = 128 << 10;
    let header = support::creation_header(bytes, SECTOR, bytes as u64, &layout);
    let image: Arc<[u8]> = header.snapshot().into();
    let mut random = Random::new(13);
    let mut tally = Tally::default();
    for place in 0..SECTOR {
        for _ in 0..amount(1, 8) {
            let device = Overlay::new(&image);
            let difference = 1 + random.below(255) as u8;
            device.change(place / SECTOR, |data| data[place % SECTOR] ^= difference);
            tally.add(boot(device, &[&State::new()]), || {
                format!("byte {place} ^ {difference:#04x}")
            });
        }
    }
    tally.assert_all_detected();
    assert!(tally.detected > 0);
}

/// A volume opened on `image`, and the device under it.
fn mounted(image: &Arc<[u8]>) -> (Arc<Overlay>, CocoonVolume) {
    let device = Arc::new(Overlay::new(image));
    let as_device: Arc<dyn BlockDevice> = device.clone();
    (device, open(&as_device).expect("opens"))
}

/// What a volume on `device` that was `expected` when the host interfered does from
/// then on: it reads, writes, and is booted from. The boot may also find a state in
/// `rolled_back`, to which the host took the whole image, and no operation before.
fn live_on(
    device: &Arc<Overlay>,
    volume: CocoonVolume,
    expected: &State,
    rolled_back: &[&State],
) -> Result<bool, String> {
    guarded(|| {
        let mut detected = compare(&volume, &[expected])?;
        let next = contents(2);
        let result = go(&volume, expected, &next);
        detected |= result.is_err();
        let before_or_after = [expected, &next];
        let allowed: &[&State] = match result {
            Ok(()) => &[&next],
            // It may have happened when the SVSM reboots, but not before.
            Err(VolumeError::OutcomeUnknown) => &before_or_after,
            Err(VolumeError::Internal) => return Err("internal error".to_owned()),
            Err(_) => &[expected],
        };
        detected |= compare(&volume, allowed)?;
        drop(volume);
        let allowed = [allowed, rolled_back].concat();
        let device: Arc<dyn BlockDevice> = device.clone();
        let booted = open(&device).map_or(Ok(true), |volume| compare(&volume, &allowed))?;
        Ok(detected | booted)
    })
}

#[test]
fn swapped_blocks_are_harmless_or_detected() {
    let [_, image] = images();
    let expected = contents(1);
    let used = used_sectors(&image);
    let mut random = Random::new(14);
    let mut tally = Tally::default();
    for n in 0..amount(200, 5_000) {
        let first = used[n % used.len()];
        let second = random.below(IMAGE / SECTOR);
        let swap = |device: &Overlay| {
            let (a, b) = (device.get(first), device.get(second));
            device.put(first, &b);
            device.put(second, &a);
        };
        let what = || format!("sectors {first} and {second}");
        let device = Overlay::new(&image);
        swap(&device);
        tally.add(boot(device, &[&expected]), what);
        let (device, volume) = mounted(&image);
        swap(&device);
        tally.add(live_on(&device, volume, &expected, &[]), what);
    }
    record(&[
        ("swap.count", tally.count),
        ("swap.undetected", tally.undetected.len() as u64),
    ]);
    tally.assert_all_detected();
    assert!(tally.detected > 0);
}

#[test]
fn stale_blocks_are_harmless_or_detected() {
    let [stale, image] = images();
    let expected = contents(1);
    let sector = |bytes: &[u8], n: usize| bytes[n * SECTOR..][..SECTOR].to_vec();
    let differ: Vec<_> = (0..IMAGE / SECTOR)
        .filter(|n| sector(&stale, *n) != sector(&image, *n))
        .collect();
    let mut random = Random::new(15);
    let mut tally = Tally::default();
    for round in 0..amount(200, 4_000) {
        // One after the other, then several at once, at last all but one.
        let chosen: Vec<_> = match round {
            n if n < differ.len() => vec![differ[n]],
            n if n % 2 == 0 => {
                let share = 1 + random.below(99);
                let is_chosen = |_: &usize| random.below(100) < share;
                differ.iter().copied().filter(is_chosen).collect()
            }
            n => {
                let spared = differ[n % differ.len()];
                differ.iter().copied().filter(|n| *n != spared).collect()
            }
        };
        let what = || format!("stale sectors {chosen:?}");
        let (device, volume) = mounted(&image);
        chosen
            .iter()
            .for_each(|n| device.put(*n, &sector(&stale, *n)));
        tally.add(live_on(&device, volume, &expected, &[&contents(0)]), what);
        // Before a boot: in parts only, the whole is a rollback (see PERSISTENCE.md).
        // What makes the old state whole again is a rollback as well.
        let device = Overlay::new(&image);
        chosen
            .iter()
            .for_each(|n| device.put(*n, &sector(&stale, *n)));
        tally.add(boot(device, &[&expected, &contents(0)]), what);
    }
    // While the volume is mounted not even the whole goes unnoticed.
    let (device, volume) = mounted(&image);
    differ
        .iter()
        .for_each(|n| device.put(*n, &sector(&stale, *n)));
    let whole = guarded(|| compare(&volume, &[&expected]));
    assert_eq!(whole, Ok(true));
    tally.add(whole, || "all of the old image".to_owned());
    record(&[
        ("stale.count", tally.count),
        ("stale.undetected", tally.undetected.len() as u64),
    ]);
    tally.assert_all_detected();
    assert!(tally.detected > 0);
}

#[test]
fn a_device_that_shrinks_while_mounted_is_an_error() {
    let [_, image] = images();
    let expected = contents(1);
    let mut tally = Tally::default();
    for end in (0..IMAGE / SECTOR).step_by(amount(16, 1)) {
        let (device, volume) = mounted(&image);
        device.shrink(end);
        let outcome = live_on(&device, volume, &expected, &[]);
        tally.add(outcome, || format!("{end} sectors left"));
        // What was cut off comes back, and so does all that had been acknowledged.
        let (device, volume) = mounted(&image);
        device.shrink(end);
        let result = go(&volume, &expected, &contents(2));
        device.shrink(IMAGE / SECTOR);
        let allowed = if result.is_ok() {
            contents(2)
        } else {
            expected.clone()
        };
        let outcome = guarded(|| match compare(&volume, &[&allowed])? {
            true => Err("refused although all is there".to_owned()),
            false => Ok(result.is_err()),
        });
        tally.add(outcome, || {
            format!("{end} sectors left for a while, {result:?}")
        });
    }
    record(&[("shrink.count", tally.count)]);
    tally.assert_all_detected();
    assert!(tally.detected > 0);
}

#[test]
fn another_size_of_the_device_is_harmless_or_detected() {
    let [_, image] = images();
    let expected = contents(1);
    let mut tally = Tally::default();
    for sectors in (0..=2 * IMAGE / SECTOR).step_by(amount(32, 1)) {
        let mut bytes = image.to_vec();
        bytes.resize(sectors * SECTOR, 0);
        let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::from_bytes(bytes, SECTOR));
        let outcome = guarded(|| {
            let volume = open(&device);
            if volume.is_some() != (sectors >= IMAGE / SECTOR) {
                return Err("opens when it should not, or not when it should".to_owned());
            }
            volume.map_or(Ok(true), |volume| compare(&volume, &[&expected]))
        });
        tally.add(outcome, || format!("{sectors} sectors"));
    }
    tally.assert_all_detected();
    assert!(tally.detected > 0);
}
