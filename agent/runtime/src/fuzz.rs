//! Fuzz targets: what comes over the keeper's socket, what images say about users, and what containers write.

use std::io::Write;
use std::os::unix::net::UnixStream;

use jiff::Timestamp;
use tests_fuzz::Target;

use crate::ids::ContainerId;
use crate::log::{Lines, Stamp, Stream};
use crate::protocol::{Call, Inbox, Request, encode};
use crate::types::{ContainerSpec, ExecSpec, User};
use crate::user;

#[test]
fn keeper_frames() {
    let id = |name: &str| ContainerId::new(name).unwrap();
    let request = |call| encode(&Request { id: 1, call, least_time: None }, 0).unwrap();
    let exec = ExecSpec { args: vec!["sh".to_owned()], ..ExecSpec::default() };
    let sandbox = "s".parse().unwrap();
    let spec = ContainerSpec::new(id("a"), sandbox, vec![], vec!["sh".to_owned()], "/log".into());
    let seed = [
        request(Call::List),
        request(Call::Signal(id("a"), 15)),
        request(Call::Exec(id("a"), Box::new(exec))),
        request(Call::EnsureContainer(Box::new(spec))),
    ]
    .concat();
    let words = &["../", "/", "Attach", "Retire", "uid", "4294967295", "least_time"];
    Target::new("keeper-frames", &[&seed]).words(words).check(|input| {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(input).unwrap();
        let mut inbox = Inbox::default();
        // Ends when the socket is empty, which is told as an error.
        while inbox.receive(&far).is_ok_and(|more| more) {}
        let mut n_calls = 0;
        while let Ok(Some((request, fds))) = inbox.next::<Request>() {
            assert!(fds.is_empty(), "nobody sent a descriptor");
            if let Call::Kill(id) | Call::RemoveContainer(id) | Call::Attach(id) = &request.call {
                assert!(!id.as_str().contains('/'), "it is a name of a file");
            }
            encode(&request, 0).unwrap();
            n_calls += 1;
        }
        n_calls > 1
    });
}

/// The texts of `/etc/passwd` and `/etc/group` and the image's user, with zero bytes between them.
#[test]
fn users() {
    let seeds: &[&[u8]] = &[
        b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:w:/var/www:\n\0root:x:0:\nlogs:x:40:web,root\n\0web:logs",
        b"1000:x:0:0::/:\n\0 1000:x:0:1000\n\x001000",
    ];
    let words = &[":", "\n", "\u{0}", "0", "1000", "4294967295", "-1", "root", "web", ",", "x"];
    Target::new("users", seeds).words(words).runs(4000).check(|input| {
        let text = String::from_utf8_lossy(input);
        let mut parts = text.splitn(3, '\0');
        let mut part = || parts.next().unwrap_or_default();
        let (passwd, group, name) = (part(), part(), part());
        let image = |it: &str| User { image: it.to_owned(), ..User::default() };
        let found = user::resolve(&image(name), passwd, group);
        if let Ok(identity) = &found {
            let ids = [identity.uid, identity.gid].into_iter().chain(identity.groups.clone());
            assert!(ids.max() <= Some(0x7fff_ffff), "the kernel would leave root as it is");
            assert!(identity.groups.is_sorted(), "sorted, each once");
        }
        // Whatever the image calls its users, who is to be 1000 is.
        let asked = user::resolve(&image("1000:50"), passwd, group).unwrap();
        assert_eq!((asked.uid, asked.gid), (1000, 50));
        let asked = User { uid: Some(1000), gid: Some(50), ..image(name) };
        let asked = user::resolve(&asked, passwd, group).unwrap();
        assert_eq!((asked.uid, asked.gid), (1000, 50));
        found.is_ok_and(|it| it.uid != 0)
    });
}

/// What a container writes is in its log, byte by byte, wherever the pipe cuts it.
#[test]
fn container_output() {
    let stamp = Stamp::new("2026-11-20T08:00:00Z".parse::<Timestamp>().unwrap());
    let logged = |input: &[u8], piece: usize| {
        let (mut lines, mut out) = (Lines::new(Stream::Stdout), Vec::new());
        for piece in input.chunks(piece) {
            lines.push(piece, &stamp, &mut out);
        }
        lines.finish(&stamp, &mut out);
        out
    };
    let long = vec![b'x'; 40_000];
    let seeds: [&[u8]; 3] = [b"a line\nanother\n\nno end", b"\n\xff\0 F \n", &long];
    Target::new("container-output", &seeds)
        .words(&["\n", " P ", " F "])
        .longest(50_000)
        .runs(400)
        .check(|input| {
            let out = logged(input, 32 * 1024);
            let piece = 1 + usize::from(input.first().copied().unwrap_or(0));
            assert_eq!(logged(input, piece), out, "however it is cut");
            let mut written = Vec::new();
            for line in out.split_inclusive(|it| *it == b'\n') {
                let mut words = line.splitn(4, |it| *it == b' ');
                let (time, stream, tag) = (words.next(), words.next(), words.next());
                assert!(time.is_some_and(|it| it.starts_with(b"2026-11-20T08:00:00")));
                assert_eq!(stream, Some(&b"stdout"[..]));
                let text = words.next().unwrap();
                let end = if tag == Some(&b"P"[..]) { text.len() - 1 } else { text.len() };
                written.extend_from_slice(&text[..end]);
            }
            if written.len() > input.len() {
                assert_eq!(written.pop(), Some(b'\n'), "a last line without an end gets one");
            }
            assert_eq!(written, input);
            !input.is_empty()
        });
}
