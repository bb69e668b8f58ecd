//! Which address belongs to whom: one file for each address, its name the address, its content the owner.
//!
//! All of it happens under a lock, which is held as long as the store is open.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use super::config::NetworkConfig;
use crate::ipam::Pool;

/// Addresses could not be remembered.
#[derive(Debug, thiserror::Error)]
#[error("could not use {}", path.display())]
pub struct StoreError {
    path: PathBuf,
    #[source]
    err: io::Error,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Owner {
    pub(super) id: String,
    pub(super) ifname: String,
}

#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    pub(super) fn open(config: &NetworkConfig) -> Result<Self, StoreError> {
        let dir = config.data_dir.clone();
        let lock = || {
            fs::create_dir_all(&dir)?;
            let lock = File::create(dir.join("lock"))?;
            lock.lock()?;
            Ok(lock)
        };
        match lock() {
            Ok(lock) => Ok(Self { dir, _lock: lock }),
            Err(err) => Err(StoreError { path: dir, err }),
        }
    }

    pub(super) fn all(&self) -> Result<BTreeMap<Ipv4Addr, Owner>, StoreError> {
        let mut all = BTreeMap::new();
        let mut read = || {
            for entry in fs::read_dir(&self.dir)? {
                let entry = entry?;
                let Some(address) = entry.file_name().to_str().and_then(|it| it.parse().ok())
                else {
                    continue;
                };
                let content = fs::read_to_string(entry.path())?;
                let (id, ifname) = content.trim_end().split_once('\n').unwrap_or_default();
                all.insert(address, Owner { id: id.into(), ifname: ifname.into() });
            }
            Ok(())
        };
        at(&self.dir, read())?;
        Ok(all)
    }

    pub(super) fn find(&self, id: &str, ifname: &str) -> Result<Option<Ipv4Addr>, StoreError> {
        let owner = Owner { id: id.into(), ifname: ifname.into() };
        Ok(self.all()?.into_iter().find(|(_, it)| *it == owner).map(|(address, _)| address))
    }

    pub(super) fn reserve(
        &self,
        pool: &Pool,
        id: &str,
        ifname: &str,
    ) -> Result<Option<Ipv4Addr>, StoreError> {
        let taken = self.all()?.into_keys().collect();
        let last = fs::read_to_string(self.dir.join("last")).ok();
        let last = last.and_then(|it| it.parse().ok());
        let Some(address) = pool.allocate(&taken, last) else { return Ok(None) };
        self.put(&address.to_string(), format!("{id}\n{ifname}\n").as_bytes())?;
        self.put("last", address.to_string().as_bytes())?;
        Ok(Some(address))
    }

    pub(super) fn release(&self, address: Ipv4Addr) -> Result<(), StoreError> {
        let path = self.dir.join(address.to_string());
        match fs::remove_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            other => at(&path, other),
        }
    }

    /// A cut leaves the old content or the new one.
    fn put(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let (fresh, path) = (self.dir.join(".new"), self.dir.join(name));
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        at(&path, write())
    }
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, StoreError> {
    result.map_err(|err| StoreError { path: path.into(), err })
}
