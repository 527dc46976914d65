//! Simulated devices: one that records what is written to it, and one that is what a
//! power cut or a tamperer leaves, at the cost of what differs from an image.

use std::sync::{Arc, Mutex};

use svsm::block::{BlockDevice, BlockError, Geometry};

/// Size of a sector, the unit that a power cut tears, in bytes.
pub const SECTOR: usize = 512;

/// What happened on a device, in order.
pub enum Event {
    /// One sector was handed to the device.
    Write { sector: usize, data: Vec<u8> },
    /// Everything before is durable.
    Flush,
    /// A transaction begins; from here on its state may show.
    Started,
    /// A transaction was acknowledged; from here on its state must show.
    Acknowledged,
}

/// A device that records writes and flushes. Clones share it.
pub struct Recorder<D> {
    pub inner: D,
    events: Arc<Mutex<Vec<Event>>>,
}

impl<D> Recorder<D> {
    pub fn new(inner: D) -> Self {
        Self {
            inner,
            events: Arc::default(),
        }
    }

    pub fn mark(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    /// What was recorded since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

impl<D: BlockDevice> BlockDevice for Recorder<D> {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read(&self, block: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.inner.read(block, buffer)
    }

    fn write(&self, block: u64, data: &[u8]) -> Result<(), BlockError> {
        assert_eq!(self.geometry().block_size, SECTOR);
        self.inner.write(block, data)?;
        let mut events = self.events.lock().unwrap();
        for (index, sector) in data.chunks(SECTOR).enumerate() {
            events.push(Event::Write {
                sector: block as usize + index,
                data: sector.to_vec(),
            });
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush()?;
        self.mark(Event::Flush);
        Ok(())
    }
}

/// An image with sectors laid over it; the image itself is shared and never changes.
pub struct Overlay {
    image: Arc<[u8]>,
    over: Mutex<Over>,
}

struct Over {
    /// For each sector of the image 1 + its place in `sectors`, or 0.
    places: Vec<u16>,
    sectors: Vec<[u8; SECTOR]>,
    /// Sectors from here on are gone.
    end: usize,
    /// Which sectors were read.
    read: Option<Vec<bool>>,
}

impl Overlay {
    pub fn new(image: &Arc<[u8]>) -> Self {
        let sectors = image.len() / SECTOR;
        assert!(sectors < usize::from(u16::MAX));
        Self {
            image: image.clone(),
            over: Mutex::new(Over {
                places: vec![0; sectors],
                sectors: Vec::new(),
                end: sectors,
                read: None,
            }),
        }
    }

    /// Lets `change` change a sector.
    pub fn change(&self, sector: usize, change: impl FnOnce(&mut [u8; SECTOR])) {
        change(self.over.lock().unwrap().sector(&self.image, sector));
    }

    /// Replaces a sector.
    pub fn put(&self, sector: usize, data: &[u8]) {
        self.change(sector, |place| place.copy_from_slice(data));
    }

    /// A copy of a sector.
    pub fn get(&self, sector: usize) -> [u8; SECTOR] {
        *self.over.lock().unwrap().view(&self.image, sector)
    }

    /// Lets the device end before `sector`, without telling anybody.
    pub fn shrink(&self, sector: usize) {
        self.over.lock().unwrap().end = sector;
    }

    /// From now on remembers which sectors are read.
    pub fn watch_reads(&self) {
        let mut over = self.over.lock().unwrap();
        over.read = Some(vec![false; over.places.len()]);
    }

    /// Sectors that were read since [`watch_reads`](Self::watch_reads).
    pub fn sectors_read(&self) -> Vec<usize> {
        let over = self.over.lock().unwrap();
        let read = over.read.as_deref().unwrap_or_default();
        (0..read.len()).filter(|sector| read[*sector]).collect()
    }

    /// The whole contents.
    pub fn flatten(&self) -> Arc<[u8]> {
        let over = self.over.lock().unwrap();
        let sectors = 0..over.places.len();
        sectors
            .flat_map(|sector| *over.view(&self.image, sector))
            .collect()
    }
}

impl Over {
    fn view<'a>(&'a self, image: &'a [u8], sector: usize) -> &'a [u8; SECTOR] {
        match self.places[sector] {
            0 => image[sector * SECTOR..][..SECTOR].try_into().unwrap(),
            place => &self.sectors[usize::from(place) - 1],
        }
    }

    fn sector<'a>(&'a mut self, image: &[u8], sector: usize) -> &'a mut [u8; SECTOR] {
        if self.places[sector] == 0 {
            self.sectors.push(*self.view(image, sector));
            self.places[sector] = self.sectors.len() as u16;
        }
        &mut self.sectors[usize::from(self.places[sector]) - 1]
    }

    fn check(&self, block: u64, len: usize) -> Result<usize, BlockError> {
        let first = usize::try_from(block).map_err(|_| BlockError::OutOfRange)?;
        let fits = len.is_multiple_of(SECTOR)
            && first
                .checked_add(len / SECTOR)
                .is_some_and(|end| end <= self.end);
        fits.then_some(first).ok_or(BlockError::OutOfRange)
    }
}

impl BlockDevice for Overlay {
    fn geometry(&self) -> Geometry {
        Geometry {
            block_size: SECTOR,
            block_count: (self.image.len() / SECTOR) as u64,
            read_only: false,
            needs_flush: true,
            write_through: false,
        }
    }

    fn read(&self, block: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let mut over = self.over.lock().unwrap();
        let first = over.check(block, buffer.len())?;
        for (sector, place) in (first..).zip(buffer.chunks_mut(SECTOR)) {
            place.copy_from_slice(over.view(&self.image, sector));
            if let Some(read) = &mut over.read {
                read[sector] = true;
            }
        }
        Ok(())
    }

    fn write(&self, block: u64, data: &[u8]) -> Result<(), BlockError> {
        let mut over = self.over.lock().unwrap();
        let first = over.check(block, data.len())?;
        for (sector, data) in (first..).zip(data.chunks(SECTOR)) {
            over.sector(&self.image, sector).copy_from_slice(data);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}
