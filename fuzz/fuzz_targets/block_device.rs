//! A virtio block device that does with its queue what the bytes say. Every call must
//! end, and hold no shared memory afterwards.

#![no_main]

#[path = "../../kernel/tests/hostile_device/fake.rs"]
#[allow(dead_code, reason = "shared with the tests of the driver")]
mod fake;

use fake::{Behaviour, CLOCK, Device, Fake, set_status};
use libfuzzer_sys::fuzz_target;
use svsm::block::{BlockDevice, Run};
use svsm::drivers::virtio::block::VirtioBlock;
use svsm::mm::shared::{POOL_SIZE, SharedBuffer, init_on_host};

/// Bytes that are used up one by one, then zeros.
struct Script(std::vec::IntoIter<u8>);

impl Script {
    fn byte(&mut self) -> u8 {
        self.0.next().unwrap_or(0)
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

fn scripted(mut script: Script) -> Behaviour {
    Box::new(move |device| {
        let mut chains: Vec<_> = std::iter::from_fn(|| device.take()).collect();
        if script.byte() & 1 == 1 {
            chains.reverse();
        }
        for chain in chains {
            let id = u32::from(chain.id);
            let served = device.serve(&chain);
            match script.byte() {
                0..0x80 => device.complete(id, served),
                0x80..0x90 => device.complete(script.word(), served),
                0x90..0xa0 => device.complete(id, script.word()),
                0xa0..0xb0 => device.complete(u32::from(script.byte()) % 64, served),
                0xb0..0xc0 => device.scribble_used(|| script.byte()),
                0xc0..0xd0 => device.move_used(u16::from(script.byte())),
                0xd0..0xd8 => device.suppress_notifications(),
                0xd8..0xe0 => {}
                0xe0..0xf0 => {
                    device.complete(id, served);
                    device.complete(id, served);
                }
                0xf0.. => {
                    set_status(&chain, script.byte());
                    device.complete(id, served);
                }
            }
        }
    })
}

fuzz_target!(|input: &[u8]| {
    init_on_host();
    let mut script = Script(input.to_vec().into_iter());
    let mut device = Device::new(64 << 10);
    match script.byte() {
        0 => device.set_capacity(u64::from(script.word()) << 32 | u64::from(script.word())),
        1 => device.set_block_size(script.word()),
        2 => device.queue_size = script.word(),
        3 => device.config.truncate(usize::from(script.byte())),
        4 => device.features = u64::from(script.word()) | u64::from(script.word()) << 32,
        5 => device.restless = true,
        _ => {}
    }
    let honest_size = device.config[..8.min(device.config.len())] == 128u64.to_le_bytes();
    let (fake, _) = Fake::new(device, scripted(script));
    if let Ok(driver) = VirtioBlock::open(fake, &CLOCK)
        && honest_size
    {
        let mut buffer = vec![0; 8192];
        let data = [5; 4096];
        let block_size = driver.geometry().block_size;
        let runs = [0, 2, 4, 6, 9, 15].map(|n| Run {
            block: (n * 4096 / block_size) as u64,
            data: &data,
        });
        for _ in 0..4 {
            let _ = driver.read(0, &mut buffer);
            let _ = driver.write_runs(&runs);
            let _ = driver.flush();
        }
    }
    SharedBuffer::allocate(POOL_SIZE).expect("nobody holds shared memory");
});
