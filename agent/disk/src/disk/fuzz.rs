//! Fuzz targets: what lies on a disk that lost power, or that somebody wrote to.

use std::{fs::File, io::Write};

use tests_fuzz::Target;

use super::{Batch, log};

const SALT: [u8; 16] = [7; 16];

fn file() -> Vec<u8> {
    let mut batch = Batch::default();
    batch.put(b"key".to_vec(), b"value".to_vec());
    batch.delete(b"gone".to_vec());
    let mut file = log::header(SALT);
    let mut record = Vec::new();
    for number in 1..3 {
        log::encode(SALT, number, &batch, &mut record);
        file.extend_from_slice(&record);
    }
    file
}

/// Records with a checksum that fits, whatever is in them.
fn sealed(mut record: Vec<u8>) -> Vec<u8> {
    if record.len() >= 20 {
        let length = u32::try_from(record.len() - 20).unwrap().to_le_bytes();
        record[..4].copy_from_slice(b"OBWR");
        record[8..12].copy_from_slice(&length);
        let checksum = log::checksum(SALT, &record[8..]).to_le_bytes();
        record[4..8].copy_from_slice(&checksum);
    }
    record
}

#[test]
fn log_records() {
    let file = file();
    let record = &file[4096..4096 + 64];
    Target::new("log-records", &[record]).check(|input| {
        let _ = log::decode(SALT, input);
        let record = sealed(input.to_vec());
        let Some((number, batch, size)) = log::decode(SALT, &record) else { return false };
        assert_eq!(size, record.len());
        let mut again = Vec::new();
        log::encode(SALT, number, &batch, &mut again);
        assert!(again.starts_with(&record), "what was read is what would be written");
        true
    });
}

#[test]
fn log_files() {
    let file = file();
    let dir = tempfile::tempdir().unwrap();
    Target::new("log-files", &[&file]).words(&["OBWR", "OBWL"]).runs(400).check(|input| {
        let mut file = File::create(dir.path().join("log-0")).unwrap();
        file.write_all(input).unwrap();
        let read = log::read(dir.path()).unwrap();
        assert!(read.len() <= 2 + input.len() / 4096);
        !read.is_empty()
    });
}
