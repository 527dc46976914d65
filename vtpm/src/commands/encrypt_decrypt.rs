//! TPM2_EncryptDecrypt (Part 3, 15.2): deprecated form with the data behind the mode.

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let decrypt = params.with(Reader::yes_no)?;
    let mode = params.with(structures::cipher_mode)?;
    let iv = params.sized(16)?;
    let data = params.secret(limit::BUFFER)?;
    params.end()?;
    super::encrypt_decrypt_2::crypt(context, decrypt, mode, iv, data, (2, 3), reply)
}
