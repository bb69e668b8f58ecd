//! Layout, crash leftovers, and the promise that a reader never sees a mix.

use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::remove_pod_volumes;

fn set(files: &[(&str, &str)]) -> FileSet {
    let files = files
        .iter()
        .map(|(path, text)| {
            (
                path.parse().unwrap(),
                FileData { bytes: text.as_bytes().to_vec(), mode: 0o644, uid: None },
            )
        })
        .collect();
    FileSet { files, ..FileSet::default() }
}

/// What a container would see: paths and contents, without the layout's own names.
fn visible(dir: &Path) -> BTreeMap<String, String> {
    fn walk(base: &Path, at: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
            if name.starts_with("..") {
                continue;
            }
            if path.is_dir() {
                walk(base, &path, found);
            } else {
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

fn wanted(set: &FileSet) -> BTreeMap<String, String> {
    let text = |data: &FileData| String::from_utf8(data.bytes.clone()).unwrap();
    set.files.iter().map(|(path, data)| (path.to_string(), text(data))).collect()
}

#[test]
fn the_group_reads_what_is_there_for_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("v");
    let mut keys = set(&[("key", "k")]);
    keys.files.values_mut().for_each(|it| it.mode = 0o400);
    let mode = || std::fs::metadata(dir.join("key")).unwrap().mode() & 0o7777;
    ensure_files(&dir, &keys, "1").unwrap();
    assert_eq!(mode(), 0o400);
    keys.gid = Some(3000);
    assert_eq!(ensure_files(&dir, &keys, "2").unwrap(), FilesOutcome::Written);
    assert_eq!(mode(), 0o440);
    assert_eq!(ensure_files(&dir, &keys, "3").unwrap(), FilesOutcome::Unchanged);
}

#[test]
fn a_set_has_the_known_layout() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("v");
    let mut first = set(&[("a", "1"), ("d/e/f", "2")]);
    first.gid = Some(3000);
    assert_eq!(ensure_files(&dir, &first, "1").unwrap(), FilesOutcome::Written);
    assert_eq!(std::fs::read_link(dir.join("..data")).unwrap(), Path::new("..1"));
    assert_eq!(std::fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
    assert_eq!(std::fs::read_link(dir.join("d")).unwrap(), Path::new("..data/d"));
    let facts = std::fs::metadata(dir.join("d/e/f")).unwrap();
    assert_eq!((facts.mode() & 0o7777, facts.gid()), (0o644, 3000));
    assert_eq!(ensure_files(&dir, &first, "2").unwrap(), FilesOutcome::Unchanged);
    assert_eq!(std::fs::read_link(dir.join("..data")).unwrap(), Path::new("..1"));
}

#[test]
fn modes_owners_and_contents_each_count_as_a_change() {
    let temp = tempfile::tempdir().unwrap();
    let mut set = set(&[("a", "1")]);
    ensure_files(temp.path(), &set, "1").unwrap();
    set.files.values_mut().for_each(|data| data.mode = 0o400);
    assert_eq!(ensure_files(temp.path(), &set, "2").unwrap(), FilesOutcome::Written);
    set.uid = Some(1000);
    assert_eq!(ensure_files(temp.path(), &set, "3").unwrap(), FilesOutcome::Written);
    set.files.values_mut().for_each(|data| data.bytes = b"2".to_vec());
    assert_eq!(ensure_files(temp.path(), &set, "3").unwrap(), FilesOutcome::Written);
    assert_eq!(visible(temp.path()), wanted(&set));
}

#[test]
fn leftovers_of_a_crash_are_swept() {
    let temp = tempfile::tempdir().unwrap();
    ensure_files(temp.path(), &set(&[("a", "1"), ("b", "1")]), "1").unwrap();
    // Cut while the next set was half written, and its link not yet renamed.
    std::fs::create_dir_all(temp.path().join("..2/x")).unwrap();
    symlink("..2", temp.path().join("..data_tmp")).unwrap();
    let next = set(&[("a", "2")]);
    assert_eq!(ensure_files(temp.path(), &next, "2").unwrap(), FilesOutcome::Written);
    assert_eq!(visible(temp.path()), wanted(&next));
    let mut names: Vec<_> =
        std::fs::read_dir(temp.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["..2", "..data", "a"]);
    // Cut after the rename, before the names were linked.
    std::fs::remove_file(temp.path().join("a")).unwrap();
    assert_eq!(ensure_files(temp.path(), &next, "3").unwrap(), FilesOutcome::Unchanged);
    assert_eq!(visible(temp.path()), wanted(&next));
}

#[test]
fn a_torn_set_is_written_again() {
    let temp = tempfile::tempdir().unwrap();
    let wanted_set = set(&[("a", "1"), ("b", "2")]);
    ensure_files(temp.path(), &wanted_set, "1").unwrap();
    std::fs::File::create(temp.path().join("..1/b")).unwrap();
    assert_eq!(ensure_files(temp.path(), &wanted_set, "2").unwrap(), FilesOutcome::Written);
    assert_eq!(visible(temp.path()), wanted(&wanted_set));
}

#[test]
fn names_that_would_break_the_layout_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let check = |files: &[(&str, &str)], stamp: &str, expected: &str| {
        let err = ensure_files(temp.path(), &set(files), stamp).unwrap_err();
        assert_eq!(err.to_string(), expected);
    };
    check(&[("..data", "")], "1", "file name ..data must not start with '..'");
    check(&[("..x/y", "")], "1", "file name ..x/y must not start with '..'");
    check(&[("a", ""), ("a-b", ""), ("a/b", "")], "1", "a is both a file and a directory");
    check(&[("a", "")], "../x", "\"../x\" cannot name a set of files");
    check(&[("a", "")], "", "\"\" cannot name a set of files");
}

#[test]
fn secrets_are_in_memory_only() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("owner/token");
    let secret = FileSet { secret: true, ..set(&[("token", "canary")]) };
    ensure_files(&dir, &secret, "1").unwrap();
    ensure_files(&dir, &secret, "2").unwrap();
    assert_eq!(visible(&dir), wanted(&secret));
    let on_disk = std::fs::metadata(temp.path()).unwrap().dev();
    assert_ne!(std::fs::metadata(dir.join("token")).unwrap().dev(), on_disk);
    assert!(!format!("{secret:?}").contains("canary"));
    remove_pod_volumes(&temp.path().join("owner")).unwrap();
    assert!(!dir.exists());
}

#[test]
fn a_reader_of_the_set_never_sees_a_mix() {
    let temp = tempfile::tempdir().unwrap();
    let version = |n: u32| {
        let text = n.to_string();
        set(&[("a", &text), ("b", &text), ("d/c", &text)])
    };
    ensure_files(temp.path(), &version(0), "0").unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut n_whole = 0;
            while !is_done.load(Ordering::Relaxed) {
                n_whole += u32::from(read_whole(temp.path()));
            }
            n_whole
        });
        for n in 1..400 {
            ensure_files(temp.path(), &version(n), &n.to_string()).unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

/// Reads all files below one look at `..data`. A set removed meanwhile shows as a missing file.
fn read_whole(dir: &Path) -> bool {
    let volume = tmpfs::open_dir(dir).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = openat(&volume, DATA, flags, Mode::empty()) else { return false };
    let mut seen = BTreeSet::new();
    for name in ["a", "b", "d/c"] {
        let Ok(fd) = openat(&root, name, OFlags::RDONLY, Mode::empty()) else { return false };
        let mut text = String::new();
        io::Read::read_to_string(&mut std::fs::File::from(fd), &mut text).unwrap();
        seen.insert(text);
    }
    assert_eq!(seen.len(), 1, "a mix: {seen:?}");
    true
}

fn any_set() -> impl Strategy<Value = FileSet> {
    let path = prop::sample::select(vec!["a", "b", "c", "d/x", "d/y", "e/f/g"]);
    let data = ("[a-c]{0,3}", prop::sample::select(vec![0o644, 0o400, 0o755]))
        .prop_map(|(text, mode)| FileData { bytes: text.into_bytes(), mode, uid: None });
    prop::collection::btree_map(path.prop_map(|it| it.parse().unwrap()), data, 0..5)
        .prop_map(|files| FileSet { files, ..FileSet::default() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_sets_ends_in_the_last_one(sets in prop::collection::vec(any_set(), 1..6)) {
        let temp = tempfile::tempdir().unwrap();
        for (n, set) in sets.iter().enumerate() {
            ensure_files(temp.path(), set, &n.to_string()).unwrap();
            prop_assert_eq!(visible(temp.path()), wanted(set));
            let again = ensure_files(temp.path(), set, "again").unwrap();
            prop_assert_eq!(again, FilesOutcome::Unchanged);
        }
    }
}
