//! Master keys, and the keys derived from them by HKDF-SHA256 (RFC 5869), one label a use.

use std::{fmt, io, path::Path, str::FromStr};

use hkdf::Hkdf;
use sha2::Sha256;

/// Length of every key in bytes.
const KEY_BYTES: usize = 32;
/// Where the ring is kept in the data folder.
const FILE_NAME: &str = "master-keys";

/// A use that has a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// Signs the users' tokens.
    Jwt,
    /// Signs download URLs.
    Download,
}

impl KeyUse {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Jwt => b"orfeas/jwt/1",
            Self::Download => b"orfeas/download/1",
        }
    }
}

/// A key derived for one use.
#[derive(Clone)]
pub struct DerivedKey([u8; KEY_BYTES]);

impl DerivedKey {
    /// The key's bytes; never to be logged or stored.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(hidden)")
    }
}

/// The master keys, newest first: the first signs, all verify.
#[derive(Clone)]
pub struct Keyring(Vec<(String, [u8; KEY_BYTES])>);

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Why there is no usable ring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error("ORFEAS_MASTER_KEYS must list `name:64 hex digits`, separated by commas")]
    Parse,
    #[error("could not read or make the master keys at {path}")]
    File { path: String, source: io::Error },
}

impl FromStr for Keyring {
    type Err = KeyringError;

    fn from_str(text: &str) -> Result<Self, KeyringError> {
        let keys: Option<Vec<_>> = text.trim().split(',').map(parse_key).collect();
        keys.filter(|keys| !keys.is_empty())
            .map(Self)
            .ok_or(KeyringError::Parse)
    }
}

fn parse_key(text: &str) -> Option<(String, [u8; KEY_BYTES])> {
    let (name, hex) = text.trim().split_once(':')?;
    if name.is_empty() || hex.len() != KEY_BYTES * 2 || !hex.is_ascii() {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some((name.to_owned(), key))
}

impl Keyring {
    /// The ring kept in a data folder; one random key is made when there is none. Of several processes that
    /// start at once, one makes it and all read the same.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn load_or_make(data_dir: &Path) -> Result<Self, KeyringError> {
        let path = data_dir.join(FILE_NAME);
        let file_error = |source| KeyringError::File {
            path: path.display().to_string(),
            source,
        };
        std::fs::create_dir_all(data_dir).map_err(file_error)?;
        if !path.exists() {
            let key: [u8; KEY_BYTES] = rand::random();
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            // Written aside (readable by the owner alone) and linked: whoever comes second keeps the first one's.
            let aside = tempfile::NamedTempFile::new_in(data_dir).map_err(file_error)?;
            std::fs::write(aside.path(), format!("k1:{hex}\n")).map_err(file_error)?;
            if let Err(error) = aside.persist_noclobber(&path)
                && error.error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(file_error(error.error));
            }
        }
        std::fs::read_to_string(&path).map_err(file_error)?.parse()
    }

    /// The key that signs for a use.
    #[must_use]
    pub fn signing(&self, key_use: KeyUse) -> DerivedKey {
        derive(&self.0[0].1, key_use)
    }

    /// The keys that verify for a use, newest first.
    #[must_use]
    pub fn verifying(&self, key_use: KeyUse) -> Vec<DerivedKey> {
        self.0.iter().map(|(_, key)| derive(key, key_use)).collect()
    }
}

fn derive(master: &[u8; KEY_BYTES], key_use: KeyUse) -> DerivedKey {
    let mut derived = [0; KEY_BYTES];
    Hkdf::<Sha256>::new(None, master)
        .expand(key_use.label(), &mut derived)
        .expect("HKDF-SHA256 yields up to 8,160 bytes");
    DerivedKey(derived)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_made_once_and_hidden() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let first = Keyring::load_or_make(folder.path()).expect("made");
        let second = Keyring::load_or_make(folder.path()).expect("read");
        assert_eq!(
            first.signing(KeyUse::Jwt).expose(),
            second.signing(KeyUse::Jwt).expose()
        );
        assert_ne!(
            first.signing(KeyUse::Jwt).expose(),
            first.signing(KeyUse::Download).expose()
        );
        assert_eq!(format!("{first:?}"), "[\"k1\"]");
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join(FILE_NAME))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "nobody else may read it");
    }

    #[test]
    fn malformed_rings_are_refused() {
        for text in ["", "k1", "k1:00", ":00", &format!("k1:{}", "zz".repeat(32))] {
            assert!(text.parse::<Keyring>().is_err(), "{text}");
        }
        let two = format!("new:{},old:{}", "01".repeat(32), "02".repeat(32));
        assert_eq!(
            two.parse::<Keyring>()
                .expect("valid")
                .verifying(KeyUse::Jwt)
                .len(),
            2
        );
    }
}
