//! EFI_VARIABLE_AUTHENTICATION_2 (UEFI 2.11, section 8.2.2): what a request for an
//! authenticated variable begins with.

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::{EfiTime, Status, guids};

const REVISION: u16 = 0x0200;
const WIN_CERT_TYPE_EFI_GUID: u16 = 0x0ef1;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    time: EfiTime,
    /// Of the certificate: from this field to the end of the signature.
    length: U32,
    revision: U16,
    certificate_type: U16,
    guid: [u8; 16],
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 40);

/// A request for an authenticated variable, taken apart.
#[derive(Debug)]
pub struct Request<'a> {
    pub time: EfiTime,
    /// PKCS #7 SignedData in DER; empty where nobody has signed.
    pub pkcs7: &'a [u8],
    /// The value.
    pub payload: &'a [u8],
}

impl<'a> Request<'a> {
    /// Takes the data of a SetVariable call apart.
    ///
    /// # Errors
    /// `EFI_SECURITY_VIOLATION` where the header is cut off, its sizes do not fit, it is of
    /// another kind, or its time is no time stamp.
    pub fn parse(data: &'a [u8]) -> Result<Self, Status> {
        let refused = Status::SECURITY_VIOLATION;
        let (header, rest) = Header::ref_from_prefix(data).map_err(|_| refused)?;
        let pkcs7 = (header.length.get() as usize)
            .checked_sub(HEADER - size_of::<EfiTime>())
            .ok_or(refused)?;
        let (pkcs7, payload) = rest.split_at_checked(pkcs7).ok_or(refused)?;
        if header.revision.get() != REVISION
            || header.certificate_type.get() != WIN_CERT_TYPE_EFI_GUID
            || header.guid != guids::CERT_TYPE_PKCS7.to_bytes()
            || !header.time.is_time_stamp()
        {
            return Err(refused);
        }
        Ok(Self {
            time: header.time,
            pkcs7,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn request() -> Vec<u8> {
        let mut request = Vec::from([0_u8; 16]);
        request.extend_from_slice(&27_u32.to_le_bytes());
        request.extend_from_slice(&[0, 2, 0xf1, 0x0e]);
        request.extend_from_slice(&guids::CERT_TYPE_PKCS7.to_bytes());
        request.extend_from_slice(b"sigvalue");
        request
    }

    #[test]
    fn the_length_separates_signature_and_value() {
        let request = request();
        let parsed = Request::parse(&request).unwrap();
        assert_eq!((parsed.pkcs7, parsed.payload), (&b"sig"[..], &b"value"[..]));
    }

    #[test]
    fn lengths_that_do_not_fit_and_other_kinds_are_refused() {
        let good = request();
        for length in [0, 1, 8, 23, 33, u32::MAX] {
            let mut bad = good.clone();
            bad[16..20].copy_from_slice(&length.to_le_bytes());
            assert!(Request::parse(&bad).is_err(), "{length}");
        }
        for len in 0..HEADER {
            assert!(Request::parse(&good[..len]).is_err(), "{len}");
        }
        for offset in [7, 8, 12, 14, 15, 20, 21, 22, 23, 24, 39] {
            let mut bad = good.clone();
            bad[offset] ^= 1;
            assert!(Request::parse(&bad).is_err(), "{offset}");
        }
    }
}
