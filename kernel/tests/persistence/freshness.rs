//! A volume that is not the newest one is refused, and no interruption on the way locks
//! its owner out or lets an older one in.

use svsm::block::memory::MemoryDevice;
use svsm::persistence::freshness::{FreshnessError, Known, Ledger, Standing, admit};
use svsm::persistence::{CocoonVolume, FileId, Namespace, Volume as _};

use crate::support::*;

const FILE: FileId = FileId::new(Namespace::Vtpm, 1);
const SERVER: [u8; 48] = [7; 48];

/// A server that knows one volume.
struct Server {
    entry: Ledger,
}

impl Server {
    fn new() -> Self {
        Self { entry: Ledger::New }
    }

    fn store(&mut self, standing: &Standing, volume: &CocoonVolume) {
        self.entry = Ledger::Known(Known {
            identity: Some(standing.identity),
            epoch: standing.epoch,
            commits: standing.commits(volume),
        });
    }
}

fn try_admit(volume: &CocoonVolume, ledger: Ledger) -> Result<Standing, FreshnessError> {
    Ok(admit(volume, ledger, Some(&SERVER), &OsEntropy)?.expect("a ledger needs an epoch"))
}

/// A boot up to the point at which the server has stored the report.
fn boot(
    device: &MemoryDevice,
    server: &mut Server,
) -> Result<(CocoonVolume, Standing), FreshnessError> {
    let volume = open_device(device, &key()).expect("it authenticates");
    let standing = try_admit(&volume, server.entry)?;
    server.store(&standing, &volume);
    Ok((volume, standing))
}

/// What the host has when it takes a copy of the disk.
fn copy(device: &MemoryDevice) -> MemoryDevice {
    MemoryDevice::from_bytes(device.snapshot(), 512)
}

#[test]
fn every_boot_has_a_new_epoch_and_the_same_identity() {
    let (device, mut server) = (formatted(&key()), Server::new());
    let (_, first) = boot(&device, &mut server).unwrap();
    for epoch in 2..6 {
        let (volume, standing) = boot(&device, &mut server).unwrap();
        assert_eq!((standing.epoch, standing.identity), (epoch, first.identity));
        // Each boot commits once by itself.
        assert_eq!(standing.commits(&volume), epoch);
    }
}

#[test]
fn a_copy_of_an_earlier_boot_is_refused_and_the_message_says_by_how_much() {
    let (device, mut server) = (formatted(&key()), Server::new());
    boot(&device, &mut server).unwrap();
    let old = copy(&device);
    for _ in 0..3 {
        boot(&device, &mut server).unwrap();
    }
    let before = old.snapshot();
    let error = boot(&old, &mut server).err().unwrap();
    assert_eq!(
        error,
        FreshnessError::EpochBehind {
            found: 1,
            known: 4,
            behind: 3
        }
    );
    assert_eq!(
        error.to_string(),
        "it was rolled back, 3 boots behind the ledger (epoch 1 of 4)"
    );
    assert_eq!(old.snapshot(), before, "a refused volume is not written to");
    boot(&device, &mut server).expect("the right one still opens");
}

#[test]
fn a_copy_of_an_earlier_commit_is_refused_where_commits_are_reported() {
    let (device, mut server) = (formatted(&key()), Server::new());
    let (volume, standing) = boot(&device, &mut server).unwrap();
    write(&volume, FILE, b"one").unwrap();
    volume.settle().unwrap();
    let old = copy(&device);
    write(&volume, FILE, b"two").unwrap();
    server.store(&standing, &volume);
    let error = boot(&old, &mut server).err().unwrap();
    assert_eq!(
        error.to_string(),
        "it was rolled back, 1 commits behind the ledger (2 of 3)"
    );
    // The journal of the commit that was reported still waits to be applied: a loss of
    // power there loses nothing, and the volume is not behind.
    let (volume, _) = boot(
        &copy(&device),
        &mut Server {
            entry: server.entry,
        },
    )
    .unwrap();
    assert_eq!(read(&volume, FILE).as_deref(), Some(&b"two"[..]));
}

#[test]
fn dropping_the_journal_of_a_reported_commit_is_refused() {
    let (device, mut server) = (formatted(&key()), Server::new());
    let (volume, standing) = boot(&device, &mut server).unwrap();
    let before = device.snapshot();
    write(&volume, FILE, b"reported").unwrap();
    server.store(&standing, &volume);
    // The answer is out, the journal is on the disk, and the host takes it away again.
    drop(volume);
    let dropped = MemoryDevice::from_bytes(before, 512);
    assert!(matches!(
        boot(&dropped, &mut server).err(),
        Some(FreshnessError::CommitsBehind { behind: 1, .. })
    ));
}

#[test]
fn another_volume_under_the_same_key_is_refused() {
    let mut server = Server::new();
    boot(&formatted(&key()), &mut server).unwrap();
    let other = formatted(&key());
    assert_eq!(
        boot(&other, &mut server).err(),
        Some(FreshnessError::NeverUsed)
    );
    let mut others = Server::new();
    for _ in 0..5 {
        boot(&other, &mut others).unwrap();
    }
    assert_eq!(
        boot(&other, &mut server).err(),
        Some(FreshnessError::OtherVolume)
    );
}

#[test]
fn an_image_that_the_owner_made_is_taken_over() {
    let mut server = Server {
        entry: Ledger::Known(Known {
            identity: None,
            epoch: 0,
            commits: 0,
        }),
    };
    let (_, standing) = boot(&formatted(&key()), &mut server).unwrap();
    assert_eq!(standing.epoch, 1);
}

#[test]
fn an_interruption_between_any_two_steps_locks_nobody_out_and_lets_nothing_older_in() {
    let (device, mut server) = (formatted(&key()), Server::new());
    for round in 0..4 {
        let newest = copy(&device);
        // Cut after the server's answer: nothing has happened.
        drop(open_device(&device, &key()));
        // Cut after the new epoch is on the volume, before it is reported. The copies of
        // before and after hold the same files.
        let volume = open_device(&device, &key()).unwrap();
        let unreported = try_admit(&volume, server.entry).unwrap();
        drop(volume);
        assert!(
            boot(
                &copy(&device),
                &mut Server {
                    entry: server.entry
                }
            )
            .is_ok()
        );
        assert!(
            boot(
                &newest,
                &mut Server {
                    entry: server.entry
                }
            )
            .is_ok()
        );
        // The next boot goes on from there.
        let (volume, standing) = boot(&device, &mut server).unwrap();
        assert_eq!(standing.epoch, unreported.epoch + 1, "round {round}");
        // Cut after the server has stored the report, before its answer: nothing was
        // served. The volume is as the ledger says, the copy of before is not.
        drop(volume);
        assert!(
            boot(
                &newest,
                &mut Server {
                    entry: server.entry
                }
            )
            .is_err()
        );
        let (volume, _) = boot(&device, &mut server).unwrap();
        write(&volume, FILE, &pattern(round, 500)).unwrap();
        volume.settle().unwrap();
    }
}

#[test]
fn two_machines_on_copies_of_one_volume_do_not_both_become_the_newest() {
    let (device, mut server) = (formatted(&key()), Server::new());
    boot(&device, &mut server).unwrap();
    let clone = copy(&device);
    // Both were told the same; the server stores only one that still builds on that.
    let told = server.entry;
    let (original, twin) = (
        open_device(&device, &key()).unwrap(),
        open_device(&clone, &key()).unwrap(),
    );
    let first = try_admit(&original, told).unwrap();
    let second = try_admit(&twin, told).unwrap();
    assert_eq!(first.epoch, second.epoch);
    server.store(&first, &original);
    // Later boots of the twin are not ahead of the ledger by themselves: it takes the
    // server's word to go on, which it did not get.
    boot(&device, &mut server).unwrap();
    assert!(matches!(
        boot(&clone, &mut server).err(),
        Some(FreshnessError::EpochBehind { .. })
    ));
}

#[test]
fn without_a_ledger_the_volume_is_not_written_to() {
    let device = formatted(&key());
    let before = device.snapshot();
    let volume = open_device(&device, &key()).unwrap();
    assert_eq!(admit(&volume, Ledger::None, None, &OsEntropy), Ok(None));
    drop(volume);
    assert_eq!(device.snapshot(), before);
}

#[test]
fn another_key_of_the_server_is_reported_once() {
    let device = formatted(&key());
    let volume = open_device(&device, &key()).unwrap();
    let admit = |server| logged(|| admit(&volume, Ledger::None, Some(server), &OsEntropy)).1;
    assert!(admit(&SERVER).is_empty());
    assert!(admit(&SERVER).is_empty());
    let lines = admit(&[8; 48]);
    assert_eq!(
        lines,
        [format!(
            "WARNING: the key broker has another key than when it was last seen, which was {}",
            "07".repeat(48)
        )]
    );
    assert!(admit(&[8; 48]).is_empty());
}

#[test]
fn a_damaged_record_is_refused() {
    let (device, mut server) = (formatted(&key()), Server::new());
    let (volume, _) = boot(&device, &mut server).unwrap();
    write(&volume, svsm::persistence::freshness::RECORD, b"short").unwrap();
    assert_eq!(
        try_admit(&volume, server.entry),
        Err(FreshnessError::Malformed(5))
    );
}
