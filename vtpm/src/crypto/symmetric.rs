//! AES and its modes (SP 800-38A), with the chaining value handed back to the caller.
//!
//! Always true: data is transformed in place; after an error it is unchanged.

use aes::{
    Aes128, Aes192, Aes256, Block,
    cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};

use super::{CipherMode, CryptoError, Result};

const BLOCK: usize = 16;

/// See [`super::Crypto::aes`].
pub(super) fn aes(
    key: &[u8],
    mode: CipherMode,
    encrypt: bool,
    iv: &mut [u8],
    data: &mut [u8],
) -> Result<()> {
    let whole_blocks = matches!(mode, CipherMode::Cbc | CipherMode::Ecb);
    if whole_blocks && !data.len().is_multiple_of(BLOCK) {
        return Err(CryptoError::Value);
    }
    match key.len() {
        16 => run(&new::<Aes128>(key)?, mode, encrypt, iv, data),
        24 => run(&new::<Aes192>(key)?, mode, encrypt, iv, data),
        32 => run(&new::<Aes256>(key)?, mode, encrypt, iv, data),
        _ => Err(CryptoError::Value),
    }
}

fn new<C: KeyInit>(key: &[u8]) -> Result<C> {
    C::new_from_slice(key).map_err(|_| CryptoError::Value)
}

fn run<C>(cipher: &C, mode: CipherMode, encrypt: bool, iv: &mut [u8], data: &mut [u8]) -> Result<()>
where
    C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>
        + BlockCipherDecrypt<BlockSize = aes::cipher::consts::U16>,
{
    if mode == CipherMode::Ecb {
        if !iv.is_empty() {
            return Err(CryptoError::Value);
        }
        for chunk in data.chunks_exact_mut(BLOCK) {
            let mut block = load(chunk);
            if encrypt {
                cipher.encrypt_block(&mut block);
            } else {
                cipher.decrypt_block(&mut block);
            }
            chunk.copy_from_slice(&block);
        }
        return Ok(());
    }
    if iv.len() != BLOCK {
        return Err(CryptoError::Value);
    }
    let mut chain = load(iv);
    for chunk in data.chunks_mut(BLOCK) {
        match mode {
            CipherMode::Cbc => chain = cbc(cipher, encrypt, &chain, chunk),
            CipherMode::Cfb => {
                let before = load(chunk);
                cipher.encrypt_block(&mut chain);
                xor(chunk, &chain);
                let text = if encrypt { load(chunk) } else { before };
                // The chaining value of a short block ends in what is left of the pad.
                let size = chunk.len();
                chain[..size].copy_from_slice(&text[..size]);
            }
            CipherMode::Ofb => {
                cipher.encrypt_block(&mut chain);
                xor(chunk, &chain);
            }
            CipherMode::Ctr => {
                let mut pad = chain;
                cipher.encrypt_block(&mut pad);
                xor(chunk, &pad);
                chain = u128::from_be_bytes(chain.into())
                    .wrapping_add(1)
                    .to_be_bytes()
                    .into();
            }
            CipherMode::Ecb => {}
        }
    }
    iv.copy_from_slice(&chain);
    Ok(())
}

fn cbc<C>(cipher: &C, encrypt: bool, chain: &Block, chunk: &mut [u8]) -> Block
where
    C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>
        + BlockCipherDecrypt<BlockSize = aes::cipher::consts::U16>,
{
    if encrypt {
        xor(chunk, chain);
        let mut block = load(chunk);
        cipher.encrypt_block(&mut block);
        chunk.copy_from_slice(&block);
        block
    } else {
        let before = load(chunk);
        let mut block = before;
        cipher.decrypt_block(&mut block);
        chunk.copy_from_slice(&block);
        xor(chunk, chain);
        before
    }
}

/// Up to one block, the rest zero (the last block of a stream mode may be short).
fn load(chunk: &[u8]) -> Block {
    let mut block = Block::default();
    for (to, from) in block.iter_mut().zip(chunk) {
        *to = *from;
    }
    block
}

fn xor(chunk: &mut [u8], pad: &Block) {
    for (byte, pad) in chunk.iter_mut().zip(pad) {
        *byte ^= pad;
    }
}
