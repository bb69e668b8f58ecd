//! Writes tar streams, right and wrong ones: names and numbers go in unchecked.

use std::io::Write;

#[derive(Clone, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
}

/// One header's fields.
#[derive(Clone)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) ty: u8,
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) owner: u64,
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
    pub(crate) body: &'a [u8],
    /// What the header claims, if not the body's size.
    pub(crate) size: Option<u64>,
}

impl Default for Member<'_> {
    fn default() -> Self {
        Self {
            name: b"",
            ty: b'0',
            link: b"",
            mode: 0o644,
            owner: 0,
            mtime: 0,
            device: (0, 0),
            body: b"",
            size: None,
        }
    }
}

impl Archive {
    pub(crate) fn add(mut self, member: &Member<'_>) -> Self {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..member.name.len()].copy_from_slice(member.name);
        old.linkname[..member.link.len()].copy_from_slice(member.link);
        old.linkflag[0] = member.ty;
        header.set_mode(member.mode);
        header.set_uid(member.owner);
        header.set_gid(member.owner);
        header.set_mtime(member.mtime);
        let size = member.body.len().try_into().unwrap();
        header.set_size(member.size.unwrap_or(size));
        header.set_device_major(member.device.0).unwrap();
        header.set_device_minor(member.device.1).unwrap();
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(member.body);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, body: &str) -> Self {
        let (name, body) = (name.as_bytes(), body.as_bytes());
        self.add(&Member { name, body, ..Member::default() })
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Self {
        self.add(&Member { name: name.as_bytes(), ty: b'5', mode, ..Member::default() })
    }

    pub(crate) fn symlink(self, name: &str, link: &str) -> Self {
        let (name, link) = (name.as_bytes(), link.as_bytes());
        self.add(&Member { name, ty: b'2', link, mode: 0o777, ..Member::default() })
    }

    pub(crate) fn hardlink(self, name: &str, link: &str) -> Self {
        let (name, link) = (name.as_bytes(), link.as_bytes());
        self.add(&Member { name, ty: b'1', link, ..Member::default() })
    }

    /// A PAX header for the member that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length += 1;
            }
            write!(body, "{length} {key}=").unwrap();
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.add(&Member { name: b"pax", ty: b'x', body: &body, ..Member::default() })
    }

    /// Without the two blocks of zeros at the end.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
