//! Tables, and how their records lie on the disk: one letter and the key, then one byte of format and the value.

const FORMAT: u8 = 1;

/// What kind of thing a record is about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Table {
    /// Objects that the hub wants.
    Desired,
    /// Sandboxes that were made or are being made.
    Sandbox,
    /// Containers, likewise.
    Container,
    /// Addresses that are given out.
    Ipam,
    /// Volumes that are mounted.
    Volume,
    /// What the hub has yet to hear.
    Outbox,
    /// Tokens of service accounts for pods.
    Token,
    /// Everything else, one record each.
    Meta,
}

pub(crate) type RecordKey = (Table, Box<str>);

impl Table {
    const ALL: [Self; 8] = [
        Self::Desired,
        Self::Sandbox,
        Self::Container,
        Self::Ipam,
        Self::Volume,
        Self::Outbox,
        Self::Token,
        Self::Meta,
    ];

    fn letter(self) -> u8 {
        match self {
            Self::Desired => b'd',
            Self::Sandbox => b's',
            Self::Container => b'c',
            Self::Ipam => b'i',
            Self::Volume => b'v',
            Self::Outbox => b'o',
            Self::Token => b't',
            Self::Meta => b'm',
        }
    }
}

pub(crate) fn disk_key(table: Table, key: &str) -> Vec<u8> {
    [&[table.letter()], key.as_bytes()].concat()
}

pub(crate) fn disk_value(value: &[u8]) -> Vec<u8> {
    [&[FORMAT], value].concat()
}

/// Reads a record back; `None` if it is not one of ours.
pub(crate) fn decode<'a>(key: &[u8], value: &'a [u8]) -> Option<(RecordKey, &'a [u8])> {
    let (letter, key) = key.split_first()?;
    let table = Table::ALL.into_iter().find(|it| it.letter() == *letter)?;
    let key = std::str::from_utf8(key).ok()?;
    let value = value.strip_prefix(&[FORMAT])?;
    Some(((table, key.into()), value))
}
