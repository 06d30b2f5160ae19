//! Attributes of messages that are written here: length, type and value, padded to four bytes (linux/netlink.h).

/// Appends an attribute.
pub(crate) fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // What most of a million routes consist of is written at once.
    if let &[a, b, c, d] = value {
        let ([l0, l1], [k0, k1]) = (8_u16.to_ne_bytes(), kind.to_ne_bytes());
        return bytes.extend_from_slice(&[l0, l1, k0, k1, a, b, c, d]);
    }
    nested(bytes, kind, |bytes| bytes.extend_from_slice(value));
}

/// Appends an attribute whose value `write` appends.
pub(crate) fn nested(bytes: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    write(bytes);
    finish(bytes, start);
}

/// Sets the length of what began at `start`, and pads it.
pub(crate) fn finish(bytes: &mut Vec<u8>, start: usize) {
    let length = (bytes.len() - start) as u16;
    if let Some(place) = bytes.get_mut(start..start + 2) {
        place.copy_from_slice(&length.to_ne_bytes());
    }
    bytes.resize(bytes.len().div_ceil(4) * 4, 0);
}
