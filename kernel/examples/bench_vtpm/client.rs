//! Commands from their parts.

/// A hierarchy or an index with a password.
pub type Authorized<'a> = (u32, &'a [u8]);

/// A TPM2B.
pub fn blob(contents: &[u8]) -> Vec<u8> {
    [&(contents.len() as u16).to_be_bytes()[..], contents].concat()
}

/// A command: handles with passwords, handles without, parameters.
pub fn command(
    code: u32,
    authorized: &[Authorized<'_>],
    handles: &[u32],
    parameters: &[u8],
) -> Vec<u8> {
    let tag: u16 = if authorized.is_empty() {
        0x8001
    } else {
        0x8002
    };
    let mut body = code.to_be_bytes().to_vec();
    let all = authorized.iter().map(|(handle, _)| handle).chain(handles);
    all.for_each(|handle| body.extend(handle.to_be_bytes()));
    if !authorized.is_empty() {
        let area: Vec<u8> = authorized
            .iter()
            .flat_map(|(_, password)| [&[0x40, 0, 0, 9, 0, 0, 1][..], &blob(password)].concat())
            .collect();
        body.extend((area.len() as u32).to_be_bytes());
        body.extend(area);
    }
    body.extend(parameters);
    let size = (body.len() + 6) as u32;
    [&tag.to_be_bytes()[..], &size.to_be_bytes(), &body].concat()
}

/// The response code.
pub fn code(response: &[u8]) -> u32 {
    let bytes = response[6..10].try_into().expect("four bytes");
    u32::from_be_bytes(bytes)
}
