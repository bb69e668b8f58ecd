//! The wire format of protobuf: numbered fields of four kinds.

use super::DecodeError;

/// The content of one field, as far as the wire tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// What a packed list consists of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packed {
    Varint,
    Fixed64,
}

/// The fields of a message, in the order sent.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u32, Wire<'a>), DecodeError> {
        let key = varint(&mut self.rest)?;
        let number = u32::try_from(key >> 3).map_err(|_| DecodeError::Overflow)?;
        let wire = match key & 7 {
            0 => Wire::Varint(varint(&mut self.rest)?),
            1 => Wire::Fixed64(fixed64(&mut self.rest)?),
            2 => {
                let length = varint(&mut self.rest)?;
                let length = usize::try_from(length).map_err(|_| DecodeError::Overflow)?;
                Wire::Bytes(take(&mut self.rest, length)?)
            }
            5 => {
                take(&mut self.rest, 4)?;
                Wire::Fixed32
            }
            other => return Err(DecodeError::WireType(u8::try_from(other).unwrap_or(u8::MAX))),
        };
        Ok((number, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The elements of a packed list.
pub(crate) fn packed(
    mut bytes: &[u8],
    kind: Packed,
) -> impl Iterator<Item = Result<Wire<'_>, DecodeError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let element = match kind {
            Packed::Varint => varint(&mut bytes).map(Wire::Varint),
            Packed::Fixed64 => fixed64(&mut bytes).map(Wire::Fixed64),
        };
        if element.is_err() {
            bytes = &[];
        }
        Some(element)
    })
}

fn varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(DecodeError::Truncated)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::Overflow)
}

fn fixed64(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let bytes = take(rest, 8)?.try_into().map_err(|_| DecodeError::Truncated)?;
    Ok(u64::from_le_bytes(bytes))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, after) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *rest = after;
    Ok(taken)
}
