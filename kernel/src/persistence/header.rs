//! What the plaintext headers of an image say of its size and shape.
//!
//! Nothing here is authenticated: it serves to refuse a device with a clear message
//! before anything is written to it, never to accept one. Offsets are those of the
//! CocoonFs format, version 1, sections "Regular CocoonFs filesystem header" and
//! "Filesystem creation info header".

use cocoon_tpm_crypto::hash::hash_alg_digest_len;
use cocoon_tpm_crypto::symcipher::SymBlockCipherAlg;
use cocoon_tpm_storage::fs::cocoonfs::ImageLayout;
use cocoon_tpm_tpm2_interface::TpmiAlgHash;

/// CocoonFs counts in units of 128 bytes.
const UNIT_LOG2: u32 = 7;

/// Magic, version, layout and length of the salt.
const STATIC_HEADER_FIXED_BYTES: u64 = 8 + 1 + 21 + 1;

/// A checksum of the integrity protection section.
const CHECKSUM_BYTES: u64 = 8;

/// Length of the encrypted update counter before it is padded to cipher blocks.
const UPDATE_COUNTER_BYTES: u64 = 16;

/// First bytes of a journal log that is to be applied.
pub const JOURNAL_MAGIC: &[u8; 8] = b"CCFSJRNL";

/// Largest block or node of any kind that a creation header may ask for, in bytes.
/// Bounds what formatting allocates.
const MAX_UNIT_BYTES_LOG2: u32 = 16;

/// Where the parts of an image lie that matter before it is opened. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderGeometry {
    /// Size of an allocation block (log2).
    pub allocation_block_bytes_log2: u32,
    /// Size of an I/O block.
    pub io_block_bytes: u64,
    /// Position of the encrypted update counter.
    pub update_counter_at: u64,
    /// Its length.
    pub update_counter_bytes: usize,
    /// Position of the image size, 8 bytes, little-endian, in allocation blocks.
    pub image_size_at: u64,
    /// Position of the journal log's head, which begins with [`JOURNAL_MAGIC`] where
    /// the journal waits to be applied.
    pub journal_at: u64,
}

impl HeaderGeometry {
    /// From an image's layout and the length of its salt in bytes; `None` where a
    /// position does not fit 64 bits.
    pub fn new(layout: &ImageLayout, salt_len: usize) -> Option<Self> {
        let allocation_log2 = u32::from(layout.allocation_block_size_128b_log2);
        let io_log2 = allocation_log2 + u32::from(layout.io_block_allocation_blocks_log2);
        let data_log2 =
            allocation_log2 + u32::from(layout.auth_tree_data_block_allocation_blocks_log2);
        let io_block_bytes = power_of_two(io_log2 + UNIT_LOG2)?;
        let journal_block_bytes = power_of_two(io_log2.max(data_log2) + UNIT_LOG2)?;
        let allocation_block_bytes = power_of_two(allocation_log2 + UNIT_LOG2)?;

        let static_header = STATIC_HEADER_FIXED_BYTES
            + CHECKSUM_BYTES
            + 1
            + u64::from(io_log2) * CHECKSUM_BYTES
            + salt_len as u64;
        let mutable_header = static_header.checked_next_multiple_of(io_block_bytes)?;
        let extent_pointers = 16;
        let root_digest = digest_bytes(layout.auth_tree_root_hmac_hash_alg);
        let counter =
            UPDATE_COUNTER_BYTES.next_multiple_of(layout.block_cipher_alg.block_len() as u64);
        let leaf_digest = digest_bytes(layout.preauth_cca_protection_hmac_hash_alg);
        let leaf_pointer = 8;
        let update_counter_at = mutable_header.checked_add(extent_pointers + root_digest)?;
        let image_size_at = update_counter_at.checked_add(counter + leaf_digest + leaf_pointer)?;
        let journal_at = image_size_at
            .checked_add(8)?
            .checked_next_multiple_of(allocation_block_bytes)?
            .checked_next_multiple_of(journal_block_bytes)?;
        Some(Self {
            allocation_block_bytes_log2: allocation_log2 + UNIT_LOG2,
            io_block_bytes,
            update_counter_at,
            update_counter_bytes: counter as usize,
            image_size_at,
            journal_at,
        })
    }

    /// Length of what lies between the update counter and the end of the image size,
    /// both included.
    pub const fn watched_bytes(&self) -> usize {
        (self.image_size_at + 8 - self.update_counter_at) as usize
    }

    /// The image's size in bytes from the 8 bytes at [`Self::image_size_at`];
    /// saturates.
    pub fn image_bytes(&self, field: [u8; 8]) -> u64 {
        u64::from_le_bytes(field).saturating_mul(1 << self.allocation_block_bytes_log2)
    }
}

/// What an image's own structures and files take, estimated from its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Size of the image in bytes.
    pub image_bytes: u64,
    /// Bytes of headers, authentication tree, allocation bitmap and an empty index.
    pub own_bytes: u64,
    allocation_block_bytes: u64,
}

impl Footprint {
    /// Bytes that a file's entry in the index takes, about.
    const INDEX_ENTRY_BYTES: u64 = 32;

    /// Length of an initialisation vector and of a cipher block.
    const CIPHER_BLOCK_BYTES: u64 = 16;

    /// For an image of `image_bytes` with `layout`, whose headers are at `header`.
    pub fn new(layout: &ImageLayout, header: &HeaderGeometry, image_bytes: u64) -> Self {
        let block = 1 << header.allocation_block_bytes_log2;
        let scaled = |log2: u8| 1u64.checked_shl(log2.into()).unwrap_or(u64::MAX);
        let times = |unit: u64, log2: u8| unit.saturating_mul(scaled(log2));
        let data_block = times(block, layout.auth_tree_data_block_allocation_blocks_log2);
        let node = times(header.io_block_bytes, layout.auth_tree_node_io_blocks_log2);
        let bitmap_block = times(
            block,
            layout.allocation_bitmap_file_block_allocation_blocks_log2,
        );
        // A node holds as many digests as the largest power of two that fits.
        let fan_out = |algorithm| 1u64 << (node / digest_bytes(algorithm).max(1)).max(2).ilog2();
        let leaf_fan_out = fan_out(layout.auth_tree_data_hmac_hash_alg);
        let inner_fan_out = fan_out(layout.auth_tree_node_hash_alg);
        let tree_bytes_for = |covered: u64| {
            let mut level = covered.div_ceil(data_block).div_ceil(leaf_fan_out);
            let mut nodes = level;
            while level > 1 {
                level = level.div_ceil(inner_fan_out);
                nodes = nodes.saturating_add(level);
            }
            nodes.saturating_mul(node)
        };
        // The tree covers all but itself; this settles within a node after few rounds.
        let tree_bytes = (0..4).fold(0, |tree_bytes, _| {
            tree_bytes_for(image_bytes.saturating_sub(tree_bytes))
        });
        let bitmap_payload = bitmap_block
            .saturating_sub(2 * Self::CIPHER_BLOCK_BYTES)
            .max(8);
        let bitmap_blocks = image_bytes
            .div_ceil(block)
            .div_ceil(8)
            .div_ceil(bitmap_payload);
        let index = times(block, layout.index_tree_leaf_node_allocation_blocks_log2);
        Self {
            image_bytes,
            own_bytes: header
                .journal_at
                .saturating_add(data_block.max(header.io_block_bytes))
                .saturating_add(tree_bytes)
                .saturating_add(bitmap_blocks.saturating_mul(bitmap_block))
                .saturating_add(index),
            allocation_block_bytes: block,
        }
    }

    /// Bytes that a file with `len` bytes of contents takes.
    pub fn of_file(&self, len: u64) -> u64 {
        // An initialisation vector before the data, one byte of padding at least.
        let encrypted = (len / Self::CIPHER_BLOCK_BYTES)
            .saturating_add(2)
            .saturating_mul(Self::CIPHER_BLOCK_BYTES);
        encrypted
            .div_ceil(self.allocation_block_bytes)
            .saturating_mul(self.allocation_block_bytes)
            .saturating_add(Self::INDEX_ENTRY_BYTES)
    }
}

fn power_of_two(log2: u32) -> Option<u64> {
    1u64.checked_shl(log2)
}

fn digest_bytes(algorithm: TpmiAlgHash) -> u64 {
    u64::from(hash_alg_digest_len(algorithm))
}

/// Image size, in bytes, that a creation header at the start of a device asks for;
/// saturates. `None` where `start` does not hold one, which includes an interrupted
/// formatting, whose header has moved to the end of the device.
pub fn creation_header_image_bytes(start: &[u8; 128], layout: &ImageLayout) -> Option<u64> {
    const IMAGE_BLOCKS_AT: usize = 8 + 1 + 21 + 8;
    const MASK_AT: usize = IMAGE_BLOCKS_AT + 8 + 1 + CHECKSUM_BYTES as usize;
    if !start.starts_with(b"CCFSMKFS") {
        return None;
    }
    let mut field = [0; 8];
    for (to, from) in field.iter_mut().zip(&start[IMAGE_BLOCKS_AT..]) {
        *to = from ^ start[MASK_AT];
    }
    Some(
        power_of_two(u32::from(layout.allocation_block_size_128b_log2) + UNIT_LOG2)
            .and_then(|block| u64::from_le_bytes(field).checked_mul(block))
            .unwrap_or(u64::MAX),
    )
}

/// Why a creation header's parameters are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LayoutError {
    #[error("blocks or nodes of more than {} bytes", 1u64 << MAX_UNIT_BYTES_LOG2)]
    BlockSize,
    #[error("a hash that is not SHA-256, SHA-384 or SHA-512")]
    Hash,
    #[error("a cipher that is not AES")]
    Cipher,
}

/// Whether a file system may be made with a layout that nobody has authenticated.
///
/// # Errors
///
/// The first parameter that is refused.
pub fn check_creation_layout(layout: &ImageLayout) -> Result<(), LayoutError> {
    let allocation = u32::from(layout.allocation_block_size_128b_log2) + UNIT_LOG2;
    let io = allocation + u32::from(layout.io_block_allocation_blocks_log2);
    let sizes = [
        allocation,
        io,
        io + u32::from(layout.auth_tree_node_io_blocks_log2),
        allocation + u32::from(layout.auth_tree_data_block_allocation_blocks_log2),
        allocation + u32::from(layout.allocation_bitmap_file_block_allocation_blocks_log2),
        allocation + u32::from(layout.index_tree_leaf_node_allocation_blocks_log2),
        allocation + u32::from(layout.index_tree_internal_node_allocation_blocks_log2),
    ];
    if sizes.iter().any(|log2| *log2 > MAX_UNIT_BYTES_LOG2) {
        return Err(LayoutError::BlockSize);
    }
    let hashes = [
        layout.auth_tree_node_hash_alg,
        layout.auth_tree_data_hmac_hash_alg,
        layout.auth_tree_root_hmac_hash_alg,
        layout.preauth_cca_protection_hmac_hash_alg,
        layout.kdf_hash_alg,
    ];
    if !hashes.iter().all(|hash| {
        matches!(
            hash,
            TpmiAlgHash::Sha256 | TpmiAlgHash::Sha384 | TpmiAlgHash::Sha512
        )
    }) {
        return Err(LayoutError::Hash);
    }
    #[allow(unreachable_patterns)] // Other ciphers exist only where a feature adds them.
    match layout.block_cipher_alg {
        SymBlockCipherAlg::Aes(_) => Ok(()),
        _ => Err(LayoutError::Cipher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_tpm_crypto::symcipher::SymBlockCipherAesKeySize;

    fn layout(allocation: u8, io: u8, node: u8, data: u8, bitmap: u8) -> ImageLayout {
        ImageLayout::new(
            allocation,
            io,
            node,
            data,
            bitmap,
            0,
            0,
            TpmiAlgHash::Sha256,
            TpmiAlgHash::Sha256,
            TpmiAlgHash::Sha256,
            TpmiAlgHash::Sha256,
            TpmiAlgHash::Sha256,
            SymBlockCipherAlg::Aes(SymBlockCipherAesKeySize::Aes128),
        )
        .unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[test]
    fn positions_of_the_usual_layout() {
        // 128-byte allocation blocks, 512-byte I/O and data blocks.
        let header = HeaderGeometry::new(&layout(0, 2, 1, 2, 2), 3).unwrap();
        assert_eq!(header.io_block_bytes, 512);
        assert_eq!(header.image_size_at, 512 + 16 + 32 + 16 + 32 + 8);
        assert_eq!(header.journal_at, 1024);
        assert_eq!(header.image_bytes(65536u64.to_le_bytes()), 8 << 20);
    }

    #[test]
    fn sizes_saturate() {
        let header = HeaderGeometry::new(&layout(2, 0, 1, 0, 0), 255).unwrap();
        assert_eq!(header.image_bytes([0xff; 8]), u64::MAX);
    }

    #[test]
    fn the_footprint_counts_tree_bitmap_and_whole_blocks() {
        let layout = layout(2, 0, 1, 0, 0);
        let header = HeaderGeometry::new(&layout, 3).unwrap();
        let footprint = Footprint::new(&layout, &header, 8 << 20);
        // 16384 blocks, of which the tree covers 15384 with 481 + 16 + 1 nodes of 1 KiB;
        // 2 KiB of bitmap in 5 blocks; 2 headers, the journal's head, a node of the index.
        assert_eq!(footprint.own_bytes, 498 * 1024 + 5 * 512 + 3 * 512 + 512);
        assert_eq!(footprint.of_file(0), 512 + 32);
        assert_eq!(footprint.of_file(495), 512 + 32);
        assert_eq!(footprint.of_file(496), 1024 + 32);
        // Whatever a header says, nothing overflows.
        let _ = Footprint::new(&layout, &header, u64::MAX).of_file(u64::MAX);
    }

    #[test]
    fn a_creation_header_may_not_ask_for_huge_blocks() {
        assert_eq!(check_creation_layout(&layout(2, 0, 1, 0, 0)), Ok(()));
        for huge in [
            layout(10, 0, 0, 0, 0),
            layout(9, 1, 0, 0, 0),
            layout(2, 0, 8, 0, 0),
            layout(4, 0, 0, 6, 0),
            layout(0, 2, 0, 2, 30),
        ] {
            assert_eq!(check_creation_layout(&huge), Err(LayoutError::BlockSize));
        }
    }

    #[test]
    fn image_size_of_a_creation_header_is_unmasked() {
        let mut start = [0x10; 128];
        start[..8].copy_from_slice(b"CCFSMKFS");
        start[38 + 1] ^= 0x40;
        let layout = layout(2, 0, 1, 0, 0);
        assert_eq!(
            creation_header_image_bytes(&start, &layout),
            Some(0x4000 * 512)
        );
        start[38 + 7] = 0xef;
        assert_eq!(creation_header_image_bytes(&start, &layout), Some(u64::MAX));
        start[0] = 0;
        assert_eq!(creation_header_image_bytes(&start, &layout), None);
    }
}
