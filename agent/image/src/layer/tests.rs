//! Ordinary and hostile layers, with the kernel's overlayfs as the judge of what they mean.

pub(crate) mod archive;
mod hostile;
mod ordinary;
mod stacked;

use std::{
    fs::File,
    io::{Seek, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use crate::{
    Digest, Limits,
    layer::{
        LayerError, apply,
        stream::{Interrupt, LayerStream},
    },
};

/// A directory with layers `0`, `1` and so on, and `outside` with something to lose.
struct Rig {
    temp: tempfile::TempDir,
    n_layers: usize,
    limits: Limits,
}

impl Rig {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("outside")).unwrap();
        let mut canary = File::create(temp.path().join("outside/canary")).unwrap();
        canary.write_all(b"untouched").unwrap();
        Self { temp, n_layers: 0, limits: Limits::standard() }
    }

    fn outside(&self) -> PathBuf {
        self.temp.path().join("outside")
    }

    fn layer(&self, n: usize) -> PathBuf {
        self.temp.path().join(n.to_string())
    }

    /// Applies a layer on top of those before it.
    fn apply(&mut self, blob: &[u8]) -> Result<Digest, LayerError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(blob).unwrap();
        file.rewind().unwrap();
        let target = self.layer(self.n_layers);
        std::fs::create_dir(&target).unwrap();
        let lowers: Vec<OwnedFd> = (0..self.n_layers).rev().map(|n| dir(&self.layer(n))).collect();
        self.n_layers += 1;
        let stream = LayerStream::open(file, &self.limits, Interrupt::default()).unwrap();
        apply::apply(stream, dir(&target), &lowers, self.limits)
    }

    #[track_caller]
    fn check_refused(&mut self, blob: &[u8], expected: &str) {
        let message = match self.apply(blob) {
            Ok(_) => "applied".to_owned(),
            Err(err) => err.to_string(),
        };
        assert!(message.contains(expected), "{message}");
        self.check_outside();
    }

    #[track_caller]
    fn check_outside(&self) {
        let names: Vec<_> =
            std::fs::read_dir(self.outside()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["canary"]);
        assert_eq!(std::fs::read(self.outside().join("canary")).unwrap(), b"untouched");
    }
}

fn dir(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}
