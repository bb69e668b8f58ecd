//! Layers on top of each other, as overlayfs shows them.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{
    Rig,
    archive::{Archive, Member},
};

/// Paths and contents of the merged layers; directories have a slash and their mode.
fn merged(rig: &Rig) -> BTreeMap<String, String> {
    let point = rig.temp.path().join("merged");
    fs::create_dir_all(&point).unwrap();
    let lowers: Vec<_> =
        (0..rig.n_layers).rev().map(|n| rig.layer(n).display().to_string()).collect();
    // Overlayfs wants two layers, if nothing is to be written.
    fs::create_dir_all(rig.temp.path().join("empty")).unwrap();
    let empty = rig.temp.path().join("empty").display().to_string();
    let options = format!("lowerdir={}:{empty}", lowers.join(":"));
    let options = std::ffi::CString::new(options).unwrap();
    mount("overlay", &point, "overlay", MountFlags::RDONLY, Some(options.as_c_str())).unwrap();
    let mut found = BTreeMap::new();
    walk(&point, &point, &mut found);
    unmount(&point, UnmountFlags::DETACH).unwrap();
    found
}

fn walk(base: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(base).unwrap().display().to_string();
        let facts = fs::symlink_metadata(&path).unwrap();
        if facts.is_dir() {
            found.insert(format!("{name}/"), format!("{:o}", facts.mode() & 0o7777));
            walk(base, &path, found);
        } else if facts.is_symlink() {
            found.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
        } else {
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

#[track_caller]
fn check(layers: &[Archive], expected: &[(&str, &str)]) {
    let mut rig = Rig::new();
    for layer in layers {
        rig.apply(&layer.clone().finish()).unwrap();
    }
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    assert_eq!(merged(&rig), expected);
}

fn lower() -> Archive {
    Archive::default().dir("d", 0o1777).file("d/a", "lower a").file("d/b", "lower b").file("f", "1")
}

#[test]
fn a_whiteout_hides_one_name_and_an_opaque_mark_all() {
    let upper = Archive::default().file("d/.wh.a", "").file("d/c", "c").file(".wh.f", "");
    check(&[lower(), upper], &[("d/", "1777"), ("d/b", "lower b"), ("d/c", "c")]);
    for upper in [
        Archive::default().file("d/.wh..wh..opq", "").file("d/c", "c"),
        Archive::default().file("d/c", "c").file("d/.wh..wh..opq", ""),
    ] {
        check(&[lower(), upper], &[("d/", "1777"), ("d/c", "c"), ("f", "1")]);
    }
}

#[test]
fn a_directory_that_is_only_passed_keeps_what_it_had() {
    let upper = Archive::default().file("d/c", "c");
    let all = [("d/", "1777"), ("d/a", "lower a"), ("d/b", "lower b"), ("d/c", "c"), ("f", "1")];
    check(&[lower(), upper], &all);
}

#[test]
fn a_whiteout_and_a_directory_of_one_layer_make_a_fresh_directory() {
    let fresh = [("d/", "700"), ("d/c", "c"), ("f", "1")];
    let first = Archive::default().file(".wh.d", "").dir("d", 0o700).file("d/c", "c");
    check(&[lower(), first], &fresh);
    let last = Archive::default().dir("d", 0o700).file("d/c", "c").file(".wh.d", "");
    check(&[lower(), last], &fresh);
    let unnamed = Archive::default().file(".wh.d", "").file("d/c", "c");
    check(&[lower(), unnamed], &[("d/", "755"), ("d/c", "c"), ("f", "1")]);
    let by_file = Archive::default().file("d", "").dir("d", 0o700).file("d/c", "c");
    check(&[lower(), by_file], &fresh);
}

#[test]
fn a_whiteout_spares_a_file_of_its_own_layer() {
    let upper = Archive::default().file("f", "2").file(".wh.f", "").file(".wh.none", "");
    let all = [("d/", "1777"), ("d/a", "lower a"), ("d/b", "lower b"), ("f", "2")];
    check(&[lower(), upper], &all);
}

#[test]
fn kinds_change_from_layer_to_layer() {
    let upper = Archive::default().file("d", "file").dir("f", 0o755).symlink("f/l", "../d");
    check(&[lower(), upper], &[("d", "file"), ("f/", "755"), ("f/l", "-> ../d")]);
}

#[test]
fn a_hardlink_into_a_lower_layer_becomes_a_copy_with_two_names() {
    let mut rig = Rig::new();
    let member = Member { name: b"d/su", mode: 0o4711, owner: 7, mtime: 9, ..Member::default() };
    let member = Member { body: b"lower", ..member };
    rig.apply(&Archive::default().dir("d", 0o750).add(&member).finish()).unwrap();
    // A layer between that does not have it.
    rig.apply(&Archive::default().file("g", "").finish()).unwrap();
    rig.apply(&Archive::default().hardlink("e/copy", "d/su").finish()).unwrap();
    let facts = |name: &str| fs::metadata(rig.layer(2).join(name)).unwrap();
    assert_eq!(fs::read(rig.layer(2).join("e/copy")).unwrap(), b"lower");
    assert_eq!(facts("e/copy").ino(), facts("d/su").ino());
    let it = facts("e/copy");
    assert_eq!((it.mode() & 0o7777, it.uid(), it.mtime()), (0o4711, 7, 9));
    assert_eq!(facts("d").mode() & 0o7777, 0o750);
}

#[test]
fn a_hardlink_does_not_reach_what_a_layer_between_has_hidden() {
    for between in [
        Archive::default().file("d/.wh.a", ""),
        Archive::default().file(".wh.d", ""),
        Archive::default().file("d/.wh..wh..opq", ""),
        Archive::default().symlink("d", "/outside"),
    ] {
        let mut rig = Rig::new();
        rig.apply(&lower().finish()).unwrap();
        rig.apply(&between.finish()).unwrap();
        rig.check_refused(&Archive::default().hardlink("x", "d/a").finish(), "does not exist");
    }
}
