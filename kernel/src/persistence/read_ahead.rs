//! Large reads while an image is opened.
//!
//! Opening an image reads many small pieces of metadata that lie close together. Here
//! the device is read in aligned windows, each once, and the pieces come from the
//! private copies: what the host changes meanwhile is not seen, so nothing is checked
//! in one version and used in another. The copies hold what a read of the device and
//! of all queued writes would return: writes change them too. They are bounded, and
//! are given up when the image is open.

use alloc::vec::Vec;

use crate::block::BlockError;

/// Size of a window in bytes; a multiple of every block size in use.
pub const WINDOW_BYTES: u64 = 64 << 10;

/// Windows held at most. The longest unused one makes room.
const MAX_WINDOWS: usize = 8;

struct Window {
    begin: u64,
    data: Vec<u8>,
}

/// Private copies of parts of a device.
#[derive(Default)]
pub struct ReadAhead {
    /// The one used last is last.
    windows: Vec<Window>,
}

impl ReadAhead {
    /// Fills `buffer` from byte `begin` on. The range lies within the device, which
    /// has `device_bytes` bytes; `load` reads from it.
    ///
    /// # Errors
    ///
    /// Those of `load`, and [`BlockError::NoMemory`]. `buffer` may be changed then.
    pub fn read(
        &mut self,
        begin: u64,
        buffer: &mut [u8],
        device_bytes: u64,
        mut load: impl FnMut(u64, &mut [u8]) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let mut position = begin;
        let mut rest = buffer;
        while !rest.is_empty() {
            let window =
                self.window(position - position % WINDOW_BYTES, device_bytes, &mut load)?;
            let from = (position - window.begin) as usize;
            let held = window.data.get(from..).ok_or(BlockError::OutOfRange)?;
            let len = held.len().min(rest.len());
            if len == 0 {
                return Err(BlockError::OutOfRange);
            }
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&held[..len]);
            position += len as u64;
            rest = later;
        }
        Ok(())
    }

    /// Takes over a write of `data` at byte `begin`.
    pub fn update(&mut self, begin: u64, data: &[u8]) {
        let end = begin.saturating_add(data.len() as u64);
        for window in &mut self.windows {
            let from = begin.max(window.begin);
            let to = end.min(window.begin + window.data.len() as u64);
            if from < to {
                window.data[(from - window.begin) as usize..(to - window.begin) as usize]
                    .copy_from_slice(&data[(from - begin) as usize..(to - begin) as usize]);
            }
        }
    }

    /// The window that begins at `begin`, read now unless it is held.
    fn window(
        &mut self,
        begin: u64,
        device_bytes: u64,
        load: &mut impl FnMut(u64, &mut [u8]) -> Result<(), BlockError>,
    ) -> Result<&Window, BlockError> {
        let held = self.windows.iter().position(|window| window.begin == begin);
        match held {
            Some(index) => self.windows[index..].rotate_left(1),
            None => {
                let len = device_bytes.saturating_sub(begin).min(WINDOW_BYTES) as usize;
                let mut data = Vec::new();
                data.try_reserve_exact(len)
                    .map_err(|_| BlockError::NoMemory)?;
                data.resize(len, 0);
                load(begin, &mut data)?;
                if self.windows.len() == MAX_WINDOWS {
                    self.windows.remove(0);
                }
                self.windows
                    .try_reserve(1)
                    .map_err(|_| BlockError::NoMemory)?;
                self.windows.push(Window { begin, data });
            }
        }
        self.windows.last().ok_or(BlockError::OutOfRange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const DEVICE_BYTES: u64 = 3 * WINDOW_BYTES / 2;

    fn device() -> Vec<u8> {
        (0..DEVICE_BYTES).map(|at| (at / 512) as u8).collect()
    }

    #[test]
    fn each_window_is_read_once_and_never_beyond_the_end() {
        let device = device();
        let mut loads = vec![];
        let mut ahead = ReadAhead::default();
        let ranges = [
            (0, 512),
            (512, 128),
            (WINDOW_BYTES - 256, 512),
            (DEVICE_BYTES - 1, 1),
            (0, DEVICE_BYTES as usize),
        ];
        for (begin, len) in ranges {
            let mut buffer = vec![0xaa; len];
            ahead
                .read(begin, &mut buffer, DEVICE_BYTES, |at, data| {
                    loads.push((at, data.len() as u64));
                    data.copy_from_slice(&device[at as usize..at as usize + data.len()]);
                    Ok(())
                })
                .unwrap();
            assert_eq!(buffer, device[begin as usize..begin as usize + len]);
        }
        assert_eq!(loads, [(0, WINDOW_BYTES), (WINDOW_BYTES, WINDOW_BYTES / 2)]);
    }

    #[test]
    fn writes_show_in_what_is_held() {
        let mut ahead = ReadAhead::default();
        let mut seen = vec![0; DEVICE_BYTES as usize];
        let load = |_, data: &mut [u8]| {
            data.fill(1);
            Ok(())
        };
        ahead.read(0, &mut seen, DEVICE_BYTES, load).unwrap();
        // Over the border of two windows, and beyond the end of what is held.
        ahead.update(WINDOW_BYTES - 512, &[2; 1024]);
        ahead.update(DEVICE_BYTES - 512, &[3; 1024]);
        ahead
            .read(0, &mut seen, DEVICE_BYTES, |_, _| Err(BlockError::Io))
            .unwrap();
        for (at, byte) in seen.iter().enumerate() {
            let at = at as u64;
            let expected = match at {
                _ if (WINDOW_BYTES - 512..WINDOW_BYTES + 512).contains(&at) => 2,
                _ if at >= DEVICE_BYTES - 512 => 3,
                _ => 1,
            };
            assert_eq!(*byte, expected, "{at}");
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut ahead = ReadAhead::default();
        let mut loads = 0;
        for index in (0..2 * MAX_WINDOWS as u64).chain([0]) {
            let mut byte = [0];
            ahead
                .read(index * WINDOW_BYTES, &mut byte, u64::MAX, |_, _| {
                    loads += 1;
                    Ok(())
                })
                .unwrap();
            assert!(ahead.windows.len() <= MAX_WINDOWS);
        }
        assert_eq!(loads, 2 * MAX_WINDOWS + 1);
    }
}
