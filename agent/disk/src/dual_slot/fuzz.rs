//! Fuzz targets: the small file with what must never be lost, after a power cut or a bad medium.

use std::io::Write;

use tests_fuzz::Target;

use super::*;

const CAPACITY: usize = 1000;

/// A slot whose checksum and length fit, whatever is in it.
fn sealed(mut slot: Vec<u8>) -> Vec<u8> {
    if slot.len() >= HEAD {
        let length = u32::try_from(slot.len() - HEAD).unwrap().to_le_bytes();
        slot[..4].copy_from_slice(MAGIC);
        slot[4..8].copy_from_slice(&FORMAT.to_le_bytes());
        slot[16..20].copy_from_slice(&length);
        let checksum = checksum(&slot[..20], &slot[HEAD..]).to_le_bytes();
        slot[20..HEAD].copy_from_slice(&checksum);
    }
    slot
}

#[test]
fn slots() {
    let seed = encode(7, b"a value");
    Target::new("slots", &[&seed]).words(&["OBDS"]).check(|input| {
        if let Some(Slot::Good { sequence, value }) = decode(input) {
            assert!(input.starts_with(&encode(sequence, &value)), "only what was written is read");
        }
        let slot = sealed(input.to_vec());
        let Some(Slot::Good { sequence, value }) = decode(&slot) else { return false };
        assert_eq!(encode(sequence, &value), slot, "what was read is what would be written");
        true
    });
}

/// The input is what the two slots begin with, half of it each; then comes what is never written.
#[test]
fn slot_files() {
    let (older, newer) = (encode(1, b"older"), encode(2, b"newer"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vital");
    let seeds = [[older.clone(), newer.clone()].concat(), [newer, older].concat()];
    Target::new("slot-files", &[&seeds[0], &seeds[1]]).runs(1000).longest(4096).check(|input| {
        let (first, second) = input.split_at(input.len() / 2);
        let mut bytes = vec![0; 2 * ALIGN];
        bytes[..first.len()].copy_from_slice(first);
        bytes[ALIGN..ALIGN + second.len()].copy_from_slice(second);
        File::create(&path).unwrap().write_all(&bytes).unwrap();
        let (slot, report) = DualSlot::open(&path, CAPACITY).unwrap();
        let value = slot.value();
        let known = [None, Some(&b"older"[..]), Some(&b"newer"[..])];
        assert!(known.contains(&value), "a damaged value is taken for a good one");
        let has_value = matches!(report, SlotReport::Intact | SlotReport::OneDamaged);
        assert_eq!(value.is_some(), has_value, "{report:?}");
        value.is_some()
    });
}
