//! Durability cannot be tested here (that takes power cuts); healing can.

use std::{collections::BTreeMap, fs, os::unix::fs::FileExt};

use super::*;

const OPTIONS: Options = Options { segment_bytes: 1 << 16, cache_bytes: 1 << 20, log_bytes: 0 };

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

#[test]
fn batches_are_there_after_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let content = filled(dir.path());
    let (disk, report) = Disk::open(dir.path(), OPTIONS).unwrap();
    assert_eq!(read(&disk), content);
    assert_eq!(report.healed, []);
}

#[test]
fn nobody_else_can_look_into_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Disk::open(&path, OPTIONS).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_disk_keeps_the_segment_size_of_its_creation() {
    let dir = tempfile::tempdir().unwrap();
    let content = filled(dir.path());
    let (disk, report) =
        Disk::open(dir.path(), Options { segment_bytes: 1 << 20, ..OPTIONS }).unwrap();
    assert_eq!((read(&disk), report.healed), (content, Vec::new()));
}

#[test]
fn a_second_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), OPTIONS).unwrap();
    let err = Disk::open(dir.path(), OPTIONS).unwrap_err();
    assert!(matches!(err, OpenError::InUse { .. }), "{err:?}");
    drop(disk);
    Disk::open(dir.path(), OPTIONS).unwrap();
}

#[test]
fn a_large_value_leaves_no_piece_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, _) = Disk::open(dir.path(), OPTIONS).unwrap();
    for size in [10_000, 100_000, 0, 511, 512, 513, 5_000] {
        let mut batch = Batch::default();
        batch.put(b"key".to_vec(), vec![7; size]);
        disk.commit(batch).unwrap();
        assert_eq!(read(&disk), Content::from([(b"key".to_vec(), vec![7; size])]));
    }
    let mut batch = Batch::default();
    batch.delete(b"key".to_vec());
    disk.commit(batch).unwrap();
    let Inner::Direct(Tree { state: tree::State::Open(store), .. }) = &disk.inner else {
        panic!("{disk:?}")
    };
    assert_eq!(store.db.len(), 1, "the fingerprint");
}

#[test]
fn a_half_written_snapshot_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let content = filled(dir.path());
    let stale = dir.path().join("store/snap.0000000000FFFFFF.generating");
    File::create(&stale).unwrap().write_all_at(b"partial", 0).unwrap();
    let (disk, report) = Disk::open(dir.path(), OPTIONS).unwrap();
    assert_eq!(read(&disk), content);
    assert_eq!(report.healed, [Healing::RemovedSnapshot { path: stale }]);
}

#[test]
fn an_open_that_died_is_followed_by_a_more_careful_one() {
    let dir = tempfile::tempdir().unwrap();
    let content = filled(dir.path());
    let mark = dir.path().join("opening");
    for (deaths, lost) in [(1, false), (2, false), (3, true)] {
        File::create(&mark).unwrap().write_all_at(&vec![b'.'; deaths], 0).unwrap();
        let (disk, report) = Disk::open(dir.path(), OPTIONS).unwrap();
        assert_eq!(report.lost_data(), lost, "{report:?}");
        assert!(!dir.path().join("store.new").exists());
        assert_eq!(read(&disk), if lost { Content::new() } else { content.clone() });
        assert!(!mark.exists());
    }
}

/// A power cut in the middle of a commit: of the sectors that it changed, any subset has reached the disk. The commit
/// is there as a whole or not at all, everything before it is there, and nothing needs to be healed.
#[test]
fn a_torn_commit_is_whole_or_absent() {
    let origin = in_memory();
    drop(filled(origin.path()));
    let (mut disk, _) = Disk::open(origin.path(), OPTIONS).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut n_whole = 0;
    for n in 0..60_u8 {
        let before = read(&disk);
        let copy = in_memory();
        copy_store(origin.path(), copy.path());
        let mut batch = Batch::default();
        for part in 0..n % 5 + 1 {
            let value = vec![n; usize::from(part) * 700];
            batch.put(format!("torn-{}", n.wrapping_mul(part) % 7).into_bytes(), value);
        }
        disk.commit(batch).unwrap();
        let after = read(&disk);
        let db = fs::read(origin.path().join("store/db")).unwrap();
        for share in [2, 4, 16] {
            let cut = in_memory();
            copy_store(copy.path(), cut.path());
            tear(&cut.path().join("store/db"), &db, share, &mut random);
            let (disk, report) = Disk::open(cut.path(), OPTIONS).unwrap();
            let found = read(&disk);
            assert!(found == before || found == after, "commit {n}: {report:?}");
            assert!(!report.lost_data(), "commit {n}: {report:?}");
            n_whole += usize::from(found == after);
        }
    }
    assert!(n_whole > 10, "{n_whole}");
}

/// Writes all changed sectors but one of `share`.
fn tear(path: &Path, new: &[u8], share: u64, random: &mut u64) {
    const SECTOR: usize = 512;
    let old = fs::read(path).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    for (index, sector) in new.chunks(SECTOR).enumerate() {
        let at = index * SECTOR;
        if old.get(at..at + sector.len()) == Some(sector) {
            continue;
        }
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        if !random.is_multiple_of(share) {
            file.write_all_at(sector, at as u64).unwrap();
        }
    }
}

/// On a file system of its own, on a thread of its own that alone has it mounted.
#[test]
fn a_full_file_system_is_survived() {
    for options in [OPTIONS, LOGGED] {
        std::thread::spawn(move || on_small_disk(options)).join().unwrap();
    }
}

fn on_small_disk(options: Options) {
    let dir = tempfile::tempdir().unwrap();
    if let Err(err) = mount_small(dir.path()) {
        assert!(std::env::var_os("REQUIRE_PRIVILEGED").is_none(), "{err}");
        return;
    }
    fill_up(dir.path(), options);
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

fn mount_small(dir: &Path) -> rustix::io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags};
    if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_err() {
        return Err(rustix::io::Errno::PERM);
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    let size = std::ffi::CString::new("size=6m").unwrap();
    rustix::mount::mount("none", dir, "tmpfs", MountFlags::empty(), &*size)
}

fn fill_up(root: &Path, options: Options) {
    let (dir, ballast) = (root.join("disk"), root.join("ballast"));
    let put = |n: u32| {
        let mut batch = Batch::default();
        batch.put(n.to_be_bytes().to_vec(), vec![1; 5_000]);
        batch
    };
    let (mut disk, _) = Disk::open(&dir, options).unwrap();
    assert!(dir.join("reserve").exists());
    disk.commit(put(0)).unwrap();
    let file = File::create(&ballast).unwrap();
    let mut at = 0;
    while file.write_all_at(&[0; 4096], at).is_ok() {
        at += 4096;
    }
    // The reserve helps for a while.
    let mut n_put = 1;
    let err = loop {
        match disk.commit(put(n_put)) {
            Ok(()) => n_put += 1,
            Err(err) => break err,
        }
    };
    assert!(err.is_full() && !dir.join("reserve").exists() && n_put > 5, "{n_put} {err:?}");
    match disk.commit(put(n_put)) {
        // What went on in the background made a little room meanwhile.
        Ok(()) => {
            assert!(options.log_bytes > 0);
            n_put += 1;
        }
        Err(err) => assert!(err.is_full(), "{err:?}"),
    }
    // Space is made, and all is well.
    file.set_len(at / 2).unwrap();
    disk.commit(put(n_put)).unwrap();
    drop(disk);

    // Full again: it opens with its reserve.
    let (disk, report) = Disk::open(&dir, options).unwrap();
    assert_eq!((read(&disk).len(), report.healed), (n_put as usize + 1, Vec::new()));
    drop(disk);
    while file.write_all_at(&[0; 4096], at).is_ok() {
        at += 4096;
    }
    let (disk, report) = Disk::open(&dir, options).unwrap();
    assert_eq!((read(&disk).len(), report.healed), (n_put as usize + 1, Vec::new()));
}

/// Each file of the database, damaged in each way: it opens, what is read is right, and it can be written.
#[test]
fn any_damage_opens_or_is_quarantined() {
    let origin = in_memory();
    let content = filled(origin.path());
    let mut names: Vec<_> =
        fs::read_dir(origin.path().join("store")).unwrap().map(|it| it.unwrap()).collect();
    names.retain(|it| it.file_type().unwrap().is_file());
    assert!(names.len() >= 3, "db, conf and a snapshot: {names:?}");
    for file in names {
        for damage in damages(fs::metadata(file.path()).unwrap().len()) {
            let copy = in_memory();
            copy_store(origin.path(), copy.path());
            let victim = copy.path().join("store").join(file.file_name());
            damage.apply(&victim);
            check_damaged(copy.path(), &content, &format!("{damage:?} in {victim:?}"));
        }
    }
}

/// Hundreds of databases, and no power cut: no need to bother the disk.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn check_damaged(dir: &Path, content: &Content, what: &str) {
    let (mut disk, report) =
        Disk::open(dir, OPTIONS).unwrap_or_else(|err| panic!("{what}: {err:?}"));
    let found = read(&disk);
    for (key, value) in &found {
        // An older value of a key that was overwritten in the damaged part is a loss, not a lie.
        let known = content.get(key);
        assert!(known.is_some_and(|it| it == value || key.starts_with(b"over")), "{what}: {key:?}");
    }
    assert_eq!(report.lost_data(), found != *content, "{what}: {:?}", report.healed);
    let mut batch = Batch::default();
    batch.put(b"after".to_vec(), b"damage".to_vec());
    // Damage that shows only now closes the disk; the next open must heal it.
    let committed = disk.commit(batch);
    drop(disk);
    let (disk, report) = Disk::open(dir, OPTIONS).unwrap_or_else(|err| panic!("{what}: {err:?}"));
    if committed.is_ok() {
        let after = read(&disk).remove(&b"after"[..]);
        assert_eq!(after.as_deref(), Some(&b"damage"[..]), "{what}: {:?}", report.healed);
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(u64),
    Truncate(u64),
    Zero(u64, u64),
    Garbage(u64, u64),
}

fn damages(len: u64) -> Vec<Damage> {
    let mut out = vec![Damage::Truncate(0), Damage::Truncate(1), Damage::Zero(0, len)];
    out.push(Damage::Garbage(0, len));
    for part in 0..8 {
        let at = len * part / 8;
        out.extend([Damage::Flip(at), Damage::Flip(at + 13), Damage::Truncate(at)]);
        out.extend([Damage::Zero(at, 64), Damage::Garbage(at, 512)]);
    }
    out
}

impl Damage {
    fn apply(self, path: &Path) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        match self {
            Self::Flip(at) => {
                let at = at.min(len - 1);
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 0x41], at).unwrap();
            }
            Self::Truncate(at) => file.set_len(at).unwrap(),
            Self::Zero(at, n) => file.write_all_at(&fill(n, len - at, |_| 0), at).unwrap(),
            Self::Garbage(at, n) => {
                let noise =
                    fill(n, len - at, |i| (i.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()[0]);
                file.write_all_at(&noise, at).unwrap();
            }
        }
    }
}

fn fill(n: u64, max: u64, byte: impl Fn(u64) -> u8) -> Vec<u8> {
    (0..n.min(max)).map(byte).collect()
}

/// Opened and closed twice, so that there is a snapshot, with overwrites and large values.
fn filled(dir: &Path) -> Content {
    for round in 0..3_u8 {
        let (mut disk, _) = Disk::open(dir, OPTIONS).unwrap();
        for n in 0..30_u8 {
            let mut batch = Batch::default();
            batch.put(format!("key-{round}-{n}").into_bytes(), vec![n; 300]);
            batch.put(format!("over-{n}").into_bytes(), vec![round; 400]);
            if n % 10 == 0 {
                batch.put(format!("large-{round}-{n}").into_bytes(), vec![n; 3_000]);
            }
            disk.commit(batch).unwrap();
        }
    }
    let (disk, _) = Disk::open(dir, OPTIONS).unwrap();
    read(&disk)
}

fn read(disk: &Disk) -> Content {
    let mut content = Content::new();
    disk.scan(&mut |key, value| {
        content.insert(key.to_vec(), value);
    })
    .unwrap();
    content
}

fn copy_store(from: &Path, to: &Path) {
    fs::copy(from.join("floor"), to.join("floor")).unwrap();
    fs::create_dir(to.join("store")).unwrap();
    fs::create_dir(to.join("store/blobs")).unwrap();
    for entry in fs::read_dir(from.join("store")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join("store").join(entry.file_name())).unwrap();
        }
    }
}

/// A log so short that it is handed over all the time.
const LOGGED: Options = Options { log_bytes: 64 << 10, ..OPTIONS };

/// Keys that are written over and deleted, and large values.
fn change(n: u32) -> Batch {
    let mut batch = Batch::default();
    let size = usize::try_from(n * 37 % 3_000).unwrap();
    batch.put(format!("over-{}", n % 13).into_bytes(), vec![n.to_le_bytes()[0]; size]);
    batch.put(format!("key-{n}").into_bytes(), n.to_be_bytes().to_vec());
    if n >= 20 {
        batch.delete(format!("key-{}", n - 20).into_bytes());
    }
    batch
}

fn take(content: &mut Content, batch: &Batch) {
    for (key, value) in &batch.changes {
        match value {
            Some(value) => content.insert(key.clone(), value.clone()),
            None => content.remove(key),
        };
    }
}

#[test]
fn a_logged_disk_reads_and_reopens_as_it_was_written() {
    let dir = in_memory();
    let mut content = Content::new();
    for round in 0..6 {
        // With a log and without one, in turns: what a log held must not come back later.
        let options = if round % 3 == 2 { OPTIONS } else { LOGGED };
        let (mut disk, report) = Disk::open(dir.path(), options).unwrap();
        assert_eq!(report.healed, [], "round {round}");
        assert_eq!(read(&disk), content, "round {round}");
        for n in round * 100..round * 100 + 90 {
            let batch = change(n);
            take(&mut content, &batch);
            disk.commit(batch).unwrap();
            if n % 10 == 0 {
                assert_eq!(read(&disk), content);
            }
        }
        assert_eq!(disk.commit(Batch::default()).ok(), Some(()));
    }
}

/// The power goes in the middle of a commit to the log, while what the log held before may be anywhere on its way into
/// the database.
#[test]
fn a_torn_commit_to_the_log_is_whole_or_absent() {
    let origin = in_memory();
    let (mut random, mut n_whole) = (0x9e37_79b9_7f4a_7c15_u64, 0);
    let mut content = Content::new();
    let (mut disk, _) = Disk::open(origin.path(), LOGGED).unwrap();
    for n in 0..60 {
        settle(&disk);
        let before = content.clone();
        let copy = in_memory();
        copy_logged(origin.path(), copy.path());
        let batch = change(n);
        take(&mut content, &batch);
        disk.commit(batch).unwrap();
        settle(&disk);
        for share in [2, 4, 16] {
            let cut = in_memory();
            copy_logged(copy.path(), cut.path());
            for name in ["log-0", "log-1"] {
                let new = fs::read(origin.path().join(name)).unwrap();
                tear(&cut.path().join(name), &new, share, &mut random);
            }
            let (disk, report) = Disk::open(cut.path(), LOGGED).unwrap();
            let found = read(&disk);
            assert!(found == before || found == content, "commit {n}: {report:?}");
            assert!(!report.lost_data(), "commit {n}: {report:?}");
            n_whole += usize::from(found == content);
        }
    }
    assert!(n_whole > 10, "{n_whole}");
}

#[test]
fn of_two_batches_with_one_number_the_acknowledged_counts() {
    let dir = tempfile::tempdir().unwrap();
    // Every commit finds the log long enough to go on in its other file.
    let options = Options { log_bytes: 1, ..OPTIONS };
    let put = |value: u8| {
        let mut batch = Batch::default();
        batch.put(b"key".to_vec(), vec![value]);
        batch
    };
    let (mut disk, _) = Disk::open(dir.path(), options).unwrap();
    for value in 0..3 {
        disk.commit(put(value)).unwrap();
        settle(&disk);
        let Inner::Logged(logged) = &mut disk.inner else { panic!("{disk:?}") };
        if logged.log_mut().current() == 1 {
            // Refused for want of space, and there all the same: in the file that is read last.
            let number = logged.number() + 1;
            logged.log_mut().tear(number, &put(99));
            break;
        }
    }
    disk.commit(put(7)).unwrap();
    drop(disk);
    let (disk, report) = Disk::open(dir.path(), options).unwrap();
    assert_eq!(read(&disk), Content::from([(b"key".to_vec(), vec![7])]));
    assert_eq!(report.healed, []);
}

/// Waits until nobody writes to the files of the database.
fn settle(disk: &Disk) {
    let Inner::Logged(logged) = &disk.inner else { panic!("{disk:?}") };
    logged.settle();
}

fn copy_logged(from: &Path, to: &Path) {
    copy_store(from, to);
    for name in ["log-0", "log-1"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Damage in a log is noticed unless it hit only the newest batches: these look like what was never acknowledged.
#[test]
fn a_damaged_log_is_never_believed() {
    let origin = in_memory();
    let mut content = Content::new();
    let mut states = vec![content.clone()];
    let (mut disk, _) =
        Disk::open(origin.path(), Options { log_bytes: 1 << 30, ..OPTIONS }).unwrap();
    for n in 0..40 {
        let batch = change(n);
        take(&mut content, &batch);
        states.push(content.clone());
        disk.commit(batch).unwrap();
    }
    let length = 41 * 4096;
    for damage in damages(length) {
        let copy = in_memory();
        copy_logged(origin.path(), copy.path());
        damage.apply(&copy.path().join("log-0"));
        let (mut disk, report) = Disk::open(copy.path(), LOGGED).unwrap();
        let found = read(&disk);
        assert!(states.contains(&found) || report.lost_data(), "{damage:?}");
        disk.commit(change(1000)).unwrap();
        let after = read(&disk);
        drop(disk);
        let (disk, report) = Disk::open(copy.path(), LOGGED).unwrap();
        assert_eq!((read(&disk), report.lost_data()), (after, false), "{damage:?}");
    }
}

/// What a value says is never taken for a record of the log.
#[test]
fn a_value_that_looks_like_a_log_changes_nothing() {
    let dir = in_memory();
    let (mut disk, _) = Disk::open(dir.path(), Options { log_bytes: 1 << 30, ..OPTIONS }).unwrap();
    for n in 0..3 {
        disk.commit(change(n)).unwrap();
    }
    let log = fs::read(dir.path().join("log-0")).unwrap();
    let forged = log.get(3 * 4096..4 * 4096).unwrap();
    let mut batch = Batch::default();
    // Its records begin where pages do, from wherever the value begins.
    batch.put(b"forged".to_vec(), forged.repeat(3)[4096 - 34..].to_vec());
    disk.commit(batch).unwrap();
    let content = read(&disk);
    drop(disk);
    // A later and shorter use of the same file leaves the pages of the value behind.
    for n in 10..12 {
        let (mut disk, _) =
            Disk::open(dir.path(), Options { log_bytes: 1 << 30, ..OPTIONS }).unwrap();
        disk.commit(change(n)).unwrap();
    }
    let (disk, report) = Disk::open(dir.path(), LOGGED).unwrap();
    let mut expect = content;
    for n in 10..12 {
        take(&mut expect, &change(n));
    }
    assert_eq!((read(&disk), report.healed), (expect, Vec::new()));
}
