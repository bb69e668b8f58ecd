//! Encryption of objects at rest: what lies on the disk of chosen kinds is sealed, what is in memory is not.
//!
//! AES-256 in Galois/Counter mode (NIST SP 800-38D) with a random nonce for each write. The object's storage key is
//! associated data: a sealed object that is moved to another place does not open there. Several keys may be known;
//! the first seals, all open, so that keys can be changed without a moment in which something cannot be read.

use std::{collections::BTreeSet, fmt, str::FromStr};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

use crate::Key;

const KEY_BYTES: usize = 32;
const MAX_NAME: usize = 63;

/// Which objects are sealed, and with what.
pub struct Sealer {
    keys: Vec<NamedKey>,
    tables: BTreeSet<String>,
    random: SystemRandom,
}

struct NamedKey {
    name: String,
    key: LessSafeKey,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.keys.iter().map(|it| it.name.as_str()).collect();
        f.debug_struct("Sealer").field("keys", &names).field("tables", &self.tables).finish()
    }
}

/// Why keys cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeysError {
    /// A line is not a name and a key.
    #[error("line {line}: expected a name and 32 bytes in hexadecimal, with a space between them")]
    Malformed {
        /// Counted from one.
        line: usize,
    },
    /// Two keys have one name.
    #[error("line {line}: there is a key named {name} already")]
    Duplicate {
        /// Counted from one.
        line: usize,
        /// The name.
        name: String,
    },
    /// There is none.
    #[error("there is no key in it")]
    Empty,
    /// A kind is not written as `plural` or `plural.group`.
    #[error("{text:?} is not a resource: expected plural or plural.group")]
    Resource {
        /// What was given.
        text: String,
    },
}

/// Why a sealed object cannot be opened. Nothing is lost: with the right keys it can.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnsealError {
    /// Its key is not known.
    #[error("it is sealed with the key {name:?}, which is not among the given keys")]
    UnknownKey {
        /// Of the key.
        name: String,
    },
    /// The key of this name does not open it.
    #[error("the key {name:?} does not open it: the key is another one, or the object is damaged")]
    WrongKey {
        /// Of the key.
        name: String,
    },
    /// It is too short or too strange.
    #[error("it is not a sealed object")]
    Malformed,
}

impl Sealer {
    /// Reads keys, one a line (`name hexadecimal`), and seals the objects of these resources (`secrets`,
    /// `deployments.apps`). Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// A line or a resource is malformed, or there is no key.
    pub fn parse(keys: &str, resources: &[String]) -> Result<Self, KeysError> {
        let mut this =
            Self { keys: Vec::new(), tables: BTreeSet::new(), random: SystemRandom::new() };
        for (index, text) in keys.lines().enumerate() {
            let (line, text) = (index + 1, text.trim());
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let parsed = text.split_once(' ').and_then(|(name, key)| NamedKey::new(name, key));
            let key = parsed.ok_or(KeysError::Malformed { line })?;
            if this.key(&key.name).is_some() {
                return Err(KeysError::Duplicate { line, name: key.name });
            }
            this.keys.push(key);
        }
        if this.keys.is_empty() {
            return Err(KeysError::Empty);
        }
        for resource in resources {
            this.tables.insert(table(resource)?);
        }
        Ok(this)
    }

    /// A line with a fresh key of this name.
    pub fn fresh_line(name: &str) -> Option<String> {
        let mut key = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut key).ok()?;
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        NamedKey::new(name, &digits).map(|it| format!("{} {digits}", it.name))
    }

    /// The name of the key with which an object is to be sealed, if it is to be.
    pub(crate) fn wanted(&self, key: &Key) -> Option<&str> {
        let sealed = self.tables.contains(key.table());
        self.keys.first().filter(|_| sealed).map(|it| it.name.as_str())
    }

    /// Seals what is to be stored under `key`: `length u8 | name | nonce | sealed bytes`.
    pub(crate) fn seal(&self, key: &Key, plain: &[u8]) -> Option<Vec<u8>> {
        let with = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let aad = Aad::from(key.as_str());
        with.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .ok()?;
        let mut out = Vec::with_capacity(1 + with.name.len() + NONCE_LEN + sealed.len());
        out.push(u8::try_from(with.name.len()).ok()?);
        out.extend_from_slice(with.name.as_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Some(out)
    }

    /// Opens what was sealed under `key`.
    pub(crate) fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let (name, nonce, bytes) = parts(sealed).ok_or(UnsealError::Malformed)?;
        let with =
            self.key(name).ok_or_else(|| UnsealError::UnknownKey { name: name.to_owned() })?;
        let mut bytes = bytes.to_vec();
        let aad = Aad::from(key.as_str());
        let opened = with.key.open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut bytes);
        let n = opened.map_err(|_| UnsealError::WrongKey { name: name.to_owned() })?.len();
        bytes.truncate(n);
        Ok(bytes)
    }

    fn key(&self, name: &str) -> Option<&NamedKey> {
        self.keys.iter().find(|it| it.name == name)
    }
}

/// The name of the key that opens a sealed object.
pub(crate) fn key_name(sealed: &[u8]) -> Option<&str> {
    parts(sealed).map(|(name, ..)| name)
}

fn parts(sealed: &[u8]) -> Option<(&str, [u8; NONCE_LEN], &[u8])> {
    let (length, rest) = sealed.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (nonce, bytes) = rest.split_first_chunk::<NONCE_LEN>()?;
    Some((std::str::from_utf8(name).ok()?, *nonce, bytes))
}

impl NamedKey {
    fn new(name: &str, digits: &str) -> Option<Self> {
        let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
        let digits = digits.trim();
        let good = !name.is_empty()
            && name.len() <= MAX_NAME
            && name.chars().all(plain)
            && digits.len() == 2 * KEY_BYTES
            && digits.is_ascii();
        if !good {
            return None;
        }
        let mut key = [0; KEY_BYTES];
        for (index, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?);
        Some(Self { name: name.to_owned(), key })
    }
}

/// `secrets` is `core/secrets/`, `deployments.apps` is `apps/deployments/`.
fn table(resource: &str) -> Result<String, KeysError> {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, "core"));
    let plain =
        |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, '-' | '.');
    if plural.is_empty() || group.is_empty() || !resource.chars().all(plain) {
        return Err(KeysError::Resource { text: resource.to_owned() });
    }
    Ok(format!("{group}/{plural}/"))
}

impl FromStr for Sealer {
    type Err = KeysError;

    /// Keys for Secrets.
    fn from_str(keys: &str) -> Result<Self, KeysError> {
        Self::parse(keys, &["secrets".to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, digit: char) -> String {
        format!("{name} {}\n", digit.to_string().repeat(64))
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_in_its_place_only() {
        let secret = Key::new("core", "secrets", Some("default"), "a");
        let old: Sealer = line("old", '1').parse().unwrap();
        let both: Sealer = (line("new", '2') + &line("old", '1')).parse().unwrap();
        let other: Sealer = line("old", '3').parse().unwrap();
        let sealed = old.seal(&secret, b"hush").unwrap();
        assert!(!sealed.windows(4).any(|it| it == b"hush"));
        assert_eq!(both.open(&secret, &sealed).unwrap(), b"hush");
        let name = || "old".to_owned();
        let elsewhere = Key::new("core", "secrets", Some("default"), "b");
        assert_eq!(both.open(&elsewhere, &sealed), Err(UnsealError::WrongKey { name: name() }));
        assert_eq!(other.open(&secret, &sealed), Err(UnsealError::WrongKey { name: name() }));
        let fresh = both.seal(&secret, b"hush").unwrap();
        assert_eq!(key_name(&fresh), Some("new"));
        let unknown = UnsealError::UnknownKey { name: "new".to_owned() };
        assert_eq!(old.open(&secret, &fresh), Err(unknown));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(old.open(&secret, &bad).is_err(), "{at}");
            assert!(old.open(&secret, &sealed[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn keys_and_resources_are_checked() {
        let resources = ["secrets".to_owned(), "deployments.apps".to_owned()];
        let text = format!("# first\n\n{}{}", line("b", 'b'), line("a", 'a'));
        let sealer = Sealer::parse(&text, &resources).unwrap();
        let wanted = |group, plural| sealer.wanted(&Key::new(group, plural, Some("n"), "x"));
        assert_eq!(wanted("core", "secrets"), Some("b"));
        assert_eq!(wanted("apps", "deployments"), Some("b"));
        assert_eq!(wanted("core", "configmaps"), None);
        for (keys, expect) in [
            (String::new(), KeysError::Empty),
            ("a 12".to_owned(), KeysError::Malformed { line: 1 }),
            (line("a b", '1'), KeysError::Malformed { line: 1 }),
            (line("a", 'g'), KeysError::Malformed { line: 1 }),
            (
                line("a", '1') + &line("a", '2'),
                KeysError::Duplicate { line: 2, name: "a".to_owned() },
            ),
        ] {
            assert_eq!(keys.parse::<Sealer>().unwrap_err(), expect, "{keys}");
        }
        assert!(Sealer::parse(&line("a", '1'), &["Secrets".to_owned()]).is_err());
        assert!(Sealer::fresh_line("k1").unwrap().parse::<Sealer>().is_ok());
        assert_eq!(Sealer::fresh_line("k 1"), None);
    }
}
