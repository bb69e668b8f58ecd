//! What every image relies on.

use std::{
    fs,
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use rustix::fs::fgetxattr;

use super::{
    Rig,
    archive::{Archive, Member, gzip},
};
use crate::Digest;

#[test]
fn attributes_of_every_kind_are_kept() {
    let mut rig = Rig::new();
    let (owner, mtime) = (1234, 1_600_000_000);
    let member = |name, ty, mode| Member { name, ty, mode, owner, mtime, ..Member::default() };
    let tar = Archive::default()
        .add(&member(b"./", b'5', 0o711))
        .add(&member(b"dir", b'5', 0o2775))
        .add(&Member { body: b"#!", ..member(b"dir/su", b'0', 0o4755) })
        .add(&Member { link: b"su", ..member(b"dir/link", b'2', 0o777) })
        .add(&Member { device: (1, 3), ..member(b"dir/null", b'3', 0o666) })
        .add(&Member { device: (7, 0), ..member(b"dir/loop", b'4', 0o660) })
        .add(&member(b"dir/fifo", b'6', 0o600))
        .hardlink("dir/su2", "dir/su")
        .finish();
    assert_eq!(rig.apply(&tar).unwrap(), Digest::of(&tar));
    let facts = |name: &str| fs::symlink_metadata(rig.layer(0).join(name)).unwrap();
    assert_eq!(facts("").mode() & 0o7777, 0o711);
    assert_eq!(facts("dir").mode() & 0o7777, 0o2775);
    assert_eq!(facts("dir/su").mode() & 0o7777, 0o4755);
    assert_eq!(facts("dir/su").ino(), facts("dir/su2").ino());
    assert_eq!(facts("dir/null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(facts("dir/null").mode() & 0o7777, 0o666);
    assert!(facts("dir/loop").file_type().is_block_device());
    assert!(facts("dir/fifo").file_type().is_fifo());
    for name in ["", "dir", "dir/su", "dir/link", "dir/null", "dir/loop", "dir/fifo"] {
        let it = facts(name);
        assert_eq!((it.uid(), it.gid(), it.mtime()), (1234, 1234, mtime.try_into().unwrap()));
    }
}

#[test]
fn extended_headers_name_size_and_mark_what_follows() {
    let mut rig = Rig::new();
    let long = "d/".repeat(100) + &"n".repeat(200);
    // Binary values may hold newlines and equals signs.
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\n=\0\0\0\0\0\0";
    let tar = Archive::default()
        .pax(&[("path", long.as_bytes()), ("mtime", b"1600000000.5"), ("size", b"4")])
        .add(&Member { name: b"short", body: b"body", size: Some(0), ..Member::default() })
        .pax(&[
            ("SCHILY.xattr.user.k", b"a\n=b"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/outside"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("uid", b"70000"),
        ])
        .file("marked", "")
        .add(&Member { name: b"@", ty: b'L', body: b"gnu-long\0", ..Member::default() })
        .file("cut", "gnu")
        .finish();
    rig.apply(&tar).unwrap();
    let facts = fs::metadata(rig.layer(0).join(&long)).unwrap();
    assert_eq!((facts.len(), facts.mtime_nsec()), (4, 500_000_000));
    let marked = fs::File::open(rig.layer(0).join("marked")).unwrap();
    let value = |name: &str| {
        let mut value = vec![0; 100];
        let n = fgetxattr(marked.as_fd(), name, &mut value[..]).ok()?;
        value.truncate(n);
        Some(value)
    };
    assert_eq!(value("user.k"), Some(b"a\n=b".to_vec()));
    assert!(value("security.capability").is_some());
    assert_eq!(value("trusted.overlay.redirect"), None);
    assert_eq!(value("user.overlay.opaque"), None);
    assert_eq!(marked.metadata().unwrap().uid(), 70000);
    assert_eq!(fs::read(rig.layer(0).join("gnu-long")).unwrap(), b"gnu");
}

#[test]
fn a_later_entry_takes_the_place_of_an_earlier_one_of_any_kind() {
    let mut rig = Rig::new();
    let tar = Archive::default()
        .dir("a", 0o755)
        .file("a/b/c", "1")
        .file("a", "file for directory")
        .file("x", "1")
        .dir("x", 0o700)
        .file("x/y", "directory for file")
        .symlink("s", "a")
        .file("s", "file for link")
        .dir("kept", 0o755)
        .file("kept/f", "1")
        .dir("kept", 0o700)
        .finish();
    rig.apply(&tar).unwrap();
    let read = |name: &str| fs::read_to_string(rig.layer(0).join(name)).unwrap();
    assert_eq!(read("a"), "file for directory");
    assert_eq!(read("x/y"), "directory for file");
    assert_eq!(read("s"), "file for link");
    assert_eq!(read("kept/f"), "1");
    assert_eq!(fs::metadata(rig.layer(0).join("kept")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn every_compression_gives_the_same_layer() {
    let tar = Archive::default().file("a", "1").finish();
    let halves = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    for blob in [tar.clone(), gzip(&tar), halves, zstd::encode_all(&tar[..], 1).unwrap()] {
        let mut rig = Rig::new();
        assert_eq!(rig.apply(&blob).unwrap(), Digest::of(&tar));
        assert_eq!(fs::read(rig.layer(0).join("a")).unwrap(), b"1");
    }
}

#[test]
fn files_below_a_link_to_a_directory_land_where_it_leads() {
    let mut rig = Rig::new();
    let tar = Archive::default()
        .symlink("var/run", "/run")
        .file("var/run/absolute", "1")
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/relative", "2")
        .finish();
    rig.apply(&tar).unwrap();
    assert!(rig.layer(0).join("run/absolute").is_file());
    assert!(rig.layer(0).join("usr/lib/relative").is_file());
    assert_eq!(fs::read_link(rig.layer(0).join("var/run")).unwrap(), Path::new("/run"));
}
