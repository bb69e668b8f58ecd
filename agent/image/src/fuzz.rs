//! Fuzz targets: what registries and images say.

use std::{
    fs::File,
    io::{Seek, Write},
    os::fd::OwnedFd,
};

use tests_fuzz::Target;

use crate::{
    Digest, ImageRef, Limits, Platform,
    challenge::{self, Challenge},
    layer::{
        apply,
        stream::{Interrupt, LayerStream},
        tar::TarReader,
        tests::archive::{Archive, Member},
    },
    manifest::{self, Document},
    record::{self, ImageRecord},
};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn references() {
    let seeds: &[&[u8]] = &[
        b"nginx",
        b"docker.io/library/nginx:1.27",
        b"[::1]:5000/a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        b"localhost/a__b.c-d:x",
        b"index.docker.io/a:b",
        b"R.io/x",
    ];
    let words = &[
        ":",
        "@",
        "/",
        "sha256:",
        "docker.io/",
        "library/",
        "[::1]:5000",
        "latest",
        "localhost",
        ".",
        "__",
    ];
    Target::new("references", seeds).words(words).runs(10_000).longest(600).check(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = text.parse::<Digest>();
        let Ok(image) = text.parse::<ImageRef>() else { return false };
        let shown = image.to_string();
        assert_eq!(shown.parse::<ImageRef>().unwrap(), image, "{shown} names the same image");
        true
    });
}

#[test]
fn manifests() {
    let config = format!(
        r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{DIGEST}","size":2}}"#
    );
    let layer = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{DIGEST}","size":3,"annotations":{{"a":"b"}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{layer},{layer}]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{DIGEST}","size":2,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}]}}"#
    );
    let image = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"User":"a:b","Env":["A=b"],"Entrypoint":["x"],"ExposedPorts":{{"80/tcp":{{}}}},"Volumes":{{"/v":{{}}}},"StopSignal":"SIGTERM"}},"rootfs":{{"type":"layers","diff_ids":["{DIGEST}","{DIGEST}"]}},"history":[{{"created":"2026-11-20T08:00:00Z","empty_layer":true}}]}}"#
    );
    let seeds = [manifest.as_bytes(), index.as_bytes(), image.as_bytes()];
    let words = &[
        "linux",
        "amd64",
        "arm64",
        "v8",
        "sha256:",
        DIGEST,
        "platform",
        "layers",
        "manifests",
        "config",
        "size",
        "mediaType",
    ];
    let name: ImageRef = "r.io/a:1".parse().unwrap();
    let platform =
        Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None };
    Target::new("manifests", &seeds).words(words).runs(4000).check(|input| {
        let read = manifest::config(&name, input, &platform);
        let _ = record::decode::<ImageRecord>(input);
        let _ = challenge::token(input);
        match Document::parse(input, &Limits::standard()) {
            Ok(Document::Index(entries)) => manifest::select(&name, &entries, &platform).is_ok(),
            Ok(Document::Manifest(manifest)) => {
                if let Ok(config) = &read {
                    let _ = manifest.layers(config);
                }
                true
            }
            Err(_) => read.is_ok(),
        }
    });
}

#[test]
fn challenges() {
    let seeds: &[&[u8]] = &[
        br#"Bearer realm="https://a.io/token",service="r.io",scope="x:y""#,
        b"basic realm=x",
        br#"Bearer realm="a\"b",service=c"#,
    ];
    Target::new("challenges", seeds).words(&["realm=", "\"", ",", "\\", "Bearer "]).check(
        |input| match Challenge::parse(&String::from_utf8_lossy(input)) {
            Some(Challenge::Bearer { realm, service }) => {
                challenge::token_url(&realm, service.as_deref(), "a", true).is_some()
            }
            Some(Challenge::Basic) => true,
            None => false,
        },
    );
}

fn archive() -> Vec<u8> {
    let pax: &[u8] = b"19 path=a/long/name\n21 mtime=1700000000.5\n20 SCHILY.xattr.u=v\n";
    Archive::default()
        .add(&Member { name: b"d/", ty: b'5', mode: 0o755, ..Member::default() })
        .add(&Member { name: b"d/f", body: b"content", ..Member::default() })
        .add(&Member { name: b"d/l", ty: b'2', link: b"../f", ..Member::default() })
        .add(&Member { name: b"d/h", ty: b'1', link: b"d/f", ..Member::default() })
        .add(&Member { name: b"d/.wh.x", ..Member::default() })
        .add(&Member { name: b"x", ty: b'x', body: pax, ..Member::default() })
        .add(&Member { name: b"long", body: b"y", ..Member::default() })
        .add(&Member { name: b"@", ty: b'L', body: b"another/long/name\0", ..Member::default() })
        .add(&Member { name: b"fifo", ty: b'6', ..Member::default() })
        .finish()
}

/// As what somebody wants to be read: the sums of headers fit.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.chunks_exact_mut(512).filter(|it| it[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|it| u32::from(*it)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fn blob(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn layers() {
    let plain = archive();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).unwrap();
    let packed = packed.finish().unwrap();
    let zstd = zstd::bulk::compress(&plain, 1).unwrap();
    let words = &[
        "../",
        "/",
        ".wh.",
        ".wh..wh..opq",
        "ustar",
        "path=",
        "size=",
        "linkpath=",
        "SCHILY.xattr.",
        "GNU.sparse.major=1",
    ];
    Target::new("layers", &[&plain, &packed, &zstd]).words(words).runs(500).check(|input| {
        let bytes = summed(input.to_vec());
        let stream = LayerStream::open(blob(&bytes), &Limits::standard(), Interrupt::default());
        let Ok(stream) = stream else { return false };
        let mut reader = TarReader::new(stream, Limits::standard());
        let mut entries = 0;
        let mut buffer = [0; 4096];
        while let Ok(Some(entry)) = reader.next_entry() {
            while reader.read_body(&entry.name, &mut buffer).is_ok_and(|n| n > 0) {}
            entries += 1;
        }
        entries > 2
    });
}

/// Whatever a layer says, nothing outside of its directory changes.
#[test]
fn applied_layers() {
    let plain = archive();
    let words = &["../../outside", "/", "..", ".wh.", "d/l", "d/", "outside/canary"];
    let temp = tempfile::tempdir().unwrap();
    let (target, outside) = (temp.path().join("layer"), temp.path().join("outside"));
    std::fs::create_dir(&outside).unwrap();
    let canary = outside.join("canary");
    std::fs::copy("/proc/self/cmdline", &canary).unwrap();
    let before = std::fs::read(&canary).unwrap();
    Target::new("applied-layers", &[&plain]).words(words).runs(120).check(|input| {
        let bytes = summed(input.to_vec());
        std::fs::create_dir(&target).unwrap();
        let stream =
            LayerStream::open(blob(&bytes), &Limits::standard(), Interrupt::default()).unwrap();
        let dir: OwnedFd = File::open(&target).unwrap().into();
        let applied = apply::apply(stream, dir, &[], Limits::standard());
        assert_eq!(std::fs::read(&canary).unwrap(), before, "it reached outside");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2, "it made something outside");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "it made something outside");
        std::fs::remove_dir_all(&target).unwrap();
        applied.is_ok()
    });
}
