//! Layers that want out, or want the node down.

use std::fs;

use proptest::prelude::*;

use super::{
    Rig,
    archive::{Archive, Member, gzip},
};
use crate::Limits;

#[test]
fn names_with_dots_or_slashes_stay_inside() {
    let mut rig = Rig::new();
    let tar = Archive::default()
        .file("../../outside/dots", "1")
        .file("/outside/absolute", "2")
        .file("a/../../../b/./c", "3")
        .dir("..", 0o755)
        .finish();
    rig.apply(&tar).unwrap();
    rig.check_outside();
    for inside in ["outside/dots", "outside/absolute", "b/c"] {
        assert!(rig.layer(0).join(inside).is_file(), "{inside}");
    }
}

#[test]
fn a_link_out_does_not_lead_out() {
    let mut rig = Rig::new();
    let outside = rig.outside().display().to_string();
    let tar = Archive::default()
        .symlink("absolute", &outside)
        .file("absolute/canary", "1")
        .dir("absolute", 0o777)
        .symlink("dots", "../../../../../../../../../../../..")
        .file(&format!("dots{outside}/canary"), "2")
        .symlink("file", &format!("{outside}/canary"))
        .file("file", "3")
        .symlink("magic", "/proc/self/root")
        .file(&format!("magic{outside}/canary"), "4")
        .symlink("up", "../outside")
        .file("up/.wh.canary", "")
        .file("up/.wh..wh..opq", "")
        .hardlink("hard", "up/none")
        .finish();
    rig.check_refused(&tar, "does not exist");
}

#[test]
fn a_hardlink_reaches_nothing_outside() {
    let outside = Rig::new();
    let canary = outside.outside().join("canary").display().to_string();
    for target in [&*canary, "../outside/canary", "/etc/passwd", "link/canary", "."] {
        let mut rig = Rig::new();
        let tar = Archive::default()
            .symlink("link", &outside.outside().display().to_string())
            .hardlink("x", target)
            .finish();
        rig.check_refused(&tar, "hardlink");
    }
    let mut rig = Rig::new();
    rig.check_refused(&Archive::default().hardlink("x", "x").finish(), "itself");
    rig.check_refused(&Archive::default().dir("d", 0o755).hardlink("x", "d").finish(), "directory");
    // A link to a link is the link, never what it leads to.
    let mut rig = Rig::new();
    let tar = Archive::default().symlink("link", &canary).hardlink("x", "link").finish();
    rig.apply(&tar).unwrap();
    assert!(rig.layer(0).join("x").is_symlink());
    outside.check_outside();
}

#[test]
fn links_that_never_end_are_refused() {
    let mut rig = Rig::new();
    let tar = Archive::default().symlink("a", "b").symlink("b", "a").file("a/f", "").finish();
    rig.check_refused(&tar, "symbolic links");
    let tar = Archive::default().symlink("a", "a/b").file("a/f", "").finish();
    rig.check_refused(&tar, "symbolic links");
}

#[test]
fn a_tree_deeper_than_any_path_is_refused() {
    let mut rig = Rig::new();
    let deep = vec!["d"; 1500].join("/");
    let mut tar = Archive::default().pax(&[("path", deep.as_bytes())]).dir("x", 0o755);
    tar = tar.pax(&[("linkpath", deep.as_bytes())]).symlink("s", "x");
    tar = tar.pax(&[("path", format!("s/{deep}").as_bytes())]).dir("x", 0o755);
    rig.check_refused(&tar.finish(), "name too long");
}

#[test]
fn bombs_are_stopped_by_their_limits() {
    let zeros = "\0".repeat(4 << 20);
    let bomb = gzip(&Archive::default().file("zeros", &zeros).finish());
    let mut rig = Rig::new();
    rig.limits = Limits { ratio: 100, ratio_floor: 1 << 20, ..Limits::standard() };
    rig.check_refused(&bomb, "compressed size");
    rig.limits = Limits { unpacked_bytes: 1 << 20, ..Limits::standard() };
    rig.check_refused(&bomb, "more than 1048576 uncompressed bytes");
    // What follows the end of the archive is counted, too.
    let behind = gzip(&[Archive::default().file("a", "").finish(), vec![0; 4 << 20]].concat());
    rig.check_refused(&behind, "more than 1048576 uncompressed bytes");
    let mut many = Archive::default();
    for n in 0..200 {
        many = many.file(&n.to_string(), "");
    }
    rig.limits = Limits { entries: 100, ..Limits::standard() };
    rig.check_refused(&many.finish(), "more than 100 entries");
    rig.limits = Limits { header_bytes: 1000, ..Limits::standard() };
    let long = Archive::default().pax(&[("path", &[b'a'; 2000])]).file("x", "").finish();
    rig.check_refused(&long, "more than 1000 bytes in an extended header");
    let claimed = Member { name: b"@", ty: b'L', size: Some(1 << 40), ..Member::default() };
    rig.check_refused(&Archive::default().add(&claimed).finish(), "extended header");
}

#[test]
fn a_copy_out_of_lower_layers_is_bounded() {
    let mut rig = Rig::new();
    rig.apply(&Archive::default().file("big", &"x".repeat(10_000)).finish()).unwrap();
    rig.limits = Limits { unpacked_bytes: 8192, ..Limits::standard() };
    rig.check_refused(&Archive::default().hardlink("copy", "big").finish(), "copied from lower");
}

#[test]
fn broken_streams_are_malformed_and_not_the_disks_fault() {
    let tar = Archive::default().file("a", &"x".repeat(3000)).finish();
    let mut checksum = tar.clone();
    checksum[0] ^= 1;
    let mut zeros = vec![0; 512];
    zeros.extend_from_slice(&tar);
    for (blob, expected) in [
        (tar[..2000].to_vec(), "failed to fill whole buffer"),
        (tar[..300].to_vec(), "failed to fill whole buffer"),
        (gzip(&tar)[..40].to_vec(), "deflate stream"),
        (checksum, "checksum"),
        (zeros, "lone zero block"),
        (b"not a tar at all".to_vec(), "failed to fill whole buffer"),
        ([&[0x1f, 0x8b][..], &[0; 100]].concat(), "entry"),
        ([&[0x28, 0xb5, 0x2f, 0xfd][..], &[0xff; 100]].concat(), "entry"),
    ] {
        let mut rig = Rig::new();
        let err = rig.apply(&blob).unwrap_err();
        assert!(err.to_string().contains(expected), "{err}");
        assert!(matches!(err, crate::layer::LayerError::Malformed { .. }), "{err:?}");
    }
    // Without its end marker a stream is still a whole one; its digest is what counts.
    Rig::new().apply(&Archive::default().file("a", "1").unfinished()).unwrap();
}

#[test]
fn what_readers_disagree_about_is_refused() {
    let check = |tar: Archive, expected: &str| Rig::new().check_refused(&tar.finish(), expected);
    let member = |name, ty| Member { name, ty, ..Member::default() };
    let tar = || Archive::default();
    check(tar().add(&member(b"a", b'S')), "sparse");
    check(tar().pax(&[("GNU.sparse.major", b"1")]).file("a", ""), "sparse");
    check(tar().add(&member(b"a", b'Z')), "entry type 0x5a");
    check(tar().pax(&[("size", b"-1")]).file("a", ""), "PAX size is not a number");
    check(tar().pax(&[("path", b"a\0b")]).file("a", ""), "NUL");
    check(tar().pax(&[("uid", b"4294967295")]).file("a", ""), "owner");
    let record = Member { body: b"99 path=x\n", ..member(b"p", b'x') };
    check(tar().add(&record).file("a", ""), "PAX record");
    check(tar().file("d/.wh.", ""), "whiteout of no name");
    check(tar().file("d/.wh...", ""), "whiteout of no name");
    check(tar().file("f", "").file("f/g", ""), "Not a directory");
    check(tar().file(&"n".repeat(90), "").pax(&[("path", &[b'n'; 300])]).file("a", ""), "too long");
}

#[test]
fn a_pax_size_wins_over_the_headers_so_that_no_entry_is_smuggled() {
    // Who believes the header sees the file "inner" behind an empty file.
    let inner = Archive::default().file("inner", "smuggled").unfinished();
    let size = inner.len().to_string();
    let outer = Member { name: b"outer", body: &inner, size: Some(0), ..Member::default() };
    let tar = Archive::default().pax(&[("size", size.as_bytes())]).add(&outer).finish();
    let mut rig = Rig::new();
    rig.apply(&tar).unwrap();
    assert_eq!(fs::read(rig.layer(0).join("outer")).unwrap(), inner);
    assert!(!rig.layer(0).join("inner").exists());
}

fn any_name() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "c",
        "..",
        ".",
        "",
        ".wh.a",
        ".wh.b",
        ".wh..wh..opq",
        "etc",
    ]);
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a layer does in whatever order, nothing outside changes and nothing panics.
    #[test]
    fn no_sequence_of_entries_gets_out(
        entries in prop::collection::vec((any_name(), any_name(), 0_u8..6), 1..30),
        cut in 0_usize..2000,
    ) {
        let mut rig = Rig::new();
        let outside = rig.outside().display().to_string();
        let mut tar = Archive::default();
        for (name, target, kind) in &entries {
            tar = match kind {
                0 => tar.file(name, "hostile"),
                1 => tar.dir(name, 0o755),
                2 => tar.symlink(name, target),
                3 => tar.symlink(name, &format!("{outside}/{target}")),
                4 => tar.hardlink(name, target),
                _ => tar.symlink(name, "/"),
            };
        }
        let tar = tar.finish();
        // Most sequences hold an entry that is refused; what came before it counts as well.
        let _ = rig.apply(&tar);
        let _ = rig.apply(&tar[..tar.len().saturating_sub(cut)]);
        rig.check_outside();
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        at in prop::collection::vec((0_usize..6000, any::<u8>()), 0..20),
    ) {
        let mut tar = Archive::default()
            .pax(&[("path", b"long"), ("mtime", b"-1.5"), ("SCHILY.xattr.user.a", b"b")])
            .file("a", "1")
            .symlink("s", "a")
            .hardlink("h", "a")
            .finish();
        for (at, byte) in at {
            let at = at % tar.len();
            tar[at] = byte;
            let block = at / 512 * 512;
            // Half of the changes get past the checksum.
            if byte % 2 == 0 && block + 512 <= tar.len() {
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&tar[block..block + 512]);
                header.set_cksum();
                tar[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        let mut rig = Rig::new();
        let _ = rig.apply(&tar);
        rig.check_outside();
    }
}
