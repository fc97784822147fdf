//! Master keys, and the keys derived from them by HKDF-SHA256 (RFC 5869), one label a use.

use std::{collections::HashSet, fmt, io, path::Path, str::FromStr};

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    api_key::{AgentSecret, KeyId, SECRET_BYTES},
    webhook::{WEBHOOK_SECRET_BYTES, WebhookSecret},
};
use crate::conversion::Owner;

/// Length of every key in bytes.
const KEY_BYTES: usize = 32;
/// Where the ring is kept in the data folder.
const FILE_NAME: &str = "master-keys";
/// A name is written into rows, logs and commands; longer ones would only be in the way.
const NAME_BYTES_MAX: usize = 64;
/// Begins what an agent's secret is derived from; a new number makes new secrets of the same keys.
const AGENT_SECRET: &[u8] = b"orfeas/agent-secret/1";
/// Begins what the secret of an owner's webhooks is derived from.
const WEBHOOK_SECRET: &[u8] = b"orfeas/webhook-secret/1";
/// Derives a secret that belongs to no key; it is no beginning of [`AGENT_SECRET`]'s texts.
const NOBODY: &[u8] = b"orfeas/agent-secret-of-nobody/1";
/// Derives what may be shown of a master key.
const FINGERPRINT: &[u8] = b"orfeas/fingerprint/1";

/// A use that has a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// Signs the users' tokens.
    Jwt,
    /// Signs download URLs.
    Download,
    /// Chains the audit log.
    Audit,
}

impl KeyUse {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Jwt => b"orfeas/jwt/1",
            Self::Download => b"orfeas/download/1",
            Self::Audit => b"orfeas/audit/1",
        }
    }
}

/// A key derived for one use.
#[derive(Clone)]
pub struct DerivedKey(Zeroizing<[u8; KEY_BYTES]>);

impl DerivedKey {
    /// The key's bytes; never to be logged or stored.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(hidden)")
    }
}

/// The master keys, newest first: the first signs, all verify.
#[derive(Clone)]
pub struct Keyring(Vec<(String, MasterKey)>);

type MasterKey = Zeroizing<[u8; KEY_BYTES]>;

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
    #[error(
        "`{name}` can't name a master key: use 1 to {NAME_BYTES_MAX} letters, digits, `_`, `.` or `-`"
    )]
    Name { name: String },
    #[error("two master keys are named `{name}`: which one a key's row means would be open")]
    Duplicate { name: String },
    #[error("could not read or make the master keys at {path}")]
    File { path: String, source: io::Error },
}

impl FromStr for Keyring {
    type Err = KeyringError;

    fn from_str(text: &str) -> Result<Self, KeyringError> {
        let keys = text
            .trim()
            .split(',')
            .map(parse_key)
            .collect::<Result<Vec<_>, _>>()?;
        let mut names = HashSet::new();
        match keys.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(KeyringError::Duplicate { name: name.clone() }),
            None => Ok(Self(keys)),
        }
    }
}

fn parse_key(text: &str) -> Result<(String, MasterKey), KeyringError> {
    let (name, hex) = text.trim().split_once(':').ok_or(KeyringError::Parse)?;
    let key = parse_hex(hex).ok_or(KeyringError::Parse)?;
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if !is_name {
        return Err(KeyringError::Name {
            name: name.chars().take(NAME_BYTES_MAX).collect(),
        });
    }
    Ok((name.to_owned(), key))
}

fn parse_hex(hex: &str) -> Option<MasterKey> {
    if hex.len() != KEY_BYTES * 2 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
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
            let hex = hex::encode(key);
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

    /// The masters' names, newest first; never empty.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The name of the master that signs, and that new keys are derived from.
    #[must_use]
    pub fn signing_name(&self) -> &str {
        &self.0[0].0
    }

    /// The key that one master yields for a use; `None` when the ring lacks that master.
    #[must_use]
    pub fn named(&self, master: &str, key_use: KeyUse) -> Option<DerivedKey> {
        self.master(master).map(|key| derive(key, key_use))
    }

    /// The secret of an agent's key; `None` when the ring lacks the master it is derived from.
    #[must_use]
    pub fn agent_secret(&self, master: &str, id: &KeyId, generation: u32) -> Option<AgentSecret> {
        let info = labelled(AGENT_SECRET, id.as_str(), generation);
        let master = self.master(master)?;
        Some(AgentSecret::from_bytes(&expand::<SECRET_BYTES>(
            master, &info,
        )))
    }

    /// The secret of an owner's webhooks; `None` when the ring lacks the master it is derived from. People have one
    /// generation, keys as many as of their own secret.
    #[must_use]
    pub fn webhook_secret(
        &self,
        master: &str,
        owner: &Owner,
        generation: u32,
    ) -> Option<WebhookSecret> {
        let info = labelled(WEBHOOK_SECRET, owner.as_str(), generation);
        let master = self.master(master)?;
        Some(WebhookSecret::from_bytes(expand::<WEBHOOK_SECRET_BYTES>(
            master, &info,
        )))
    }

    /// A secret that belongs to no key: a signature of an unknown key is held against it, so that the answer takes
    /// as long as for a known one and the ids that exist can't be told by the clock.
    #[must_use]
    pub fn agent_secret_of_nobody(&self) -> AgentSecret {
        AgentSecret::from_bytes(&expand::<SECRET_BYTES>(&self.0[0].1, NOBODY))
    }

    /// What nodes show each other to see that their rings are the same, newest first: each master's name and 32 bytes
    /// that depend on its key and from which neither it nor anything else derived from it can be found.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<(String, [u8; 32])> {
        self.0
            .iter()
            .map(|(name, key)| (name.clone(), *expand(key, FINGERPRINT)))
            .collect()
    }

    fn master(&self, name: &str) -> Option<&MasterKey> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, key)| key)
    }
}

/// A label, a name and a generation, each of the two with its length before it.
fn labelled(label: &[u8], name: &str, generation: u32) -> Vec<u8> {
    let mut info = label.to_vec();
    for part in [name.as_bytes(), &generation.to_be_bytes()] {
        let bytes = u32::try_from(part.len()).expect("names have far fewer bytes than 2^32");
        info.extend_from_slice(&bytes.to_be_bytes());
        info.extend_from_slice(part);
    }
    info
}

fn derive(master: &MasterKey, key_use: KeyUse) -> DerivedKey {
    DerivedKey(expand(master, key_use.label()))
}

fn expand<const BYTES: usize>(master: &MasterKey, info: &[u8]) -> Zeroizing<[u8; BYTES]> {
    let mut derived = Zeroizing::new([0; BYTES]);
    Hkdf::<Sha256>::new(None, master.as_slice())
        .expand(info, derived.as_mut_slice())
        .expect("HKDF-SHA256 yields up to 8,160 bytes");
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(text: &str) -> Keyring {
        text.parse().expect("valid")
    }

    fn two() -> Keyring {
        ring(&format!("new:{},old:{}", "01".repeat(32), "02".repeat(32)))
    }

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
        let key = "01".repeat(32);
        for text in [
            "",
            "k1",
            "k1:00",
            ":00",
            &format!("k1:{}", "zz".repeat(32)),
            &format!("k1:{}", "+1".repeat(32)),
        ] {
            let refused = text.parse::<Keyring>();
            assert!(matches!(refused, Err(KeyringError::Parse)), "{text}");
        }
        for name in ["", "two words", "é", "a:b", &"x".repeat(65)] {
            let refused = format!("{name}:{key}").parse::<Keyring>();
            assert!(refused.is_err(), "{name}");
        }
        let refused = format!("a:{key},b:{key},a:{}", "02".repeat(32)).parse::<Keyring>();
        assert!(matches!(refused, Err(KeyringError::Duplicate { name }) if name == "a"));
        assert!(
            format!("{}:{key}", "x".repeat(64))
                .parse::<Keyring>()
                .is_ok()
        );
        assert_eq!(two().verifying(KeyUse::Jwt).len(), 2);
    }

    #[test]
    fn a_secret_depends_on_master_key_and_generation() {
        let ring = two();
        let (id, other) = (KeyId::new(), KeyId::new());
        let secrets: Vec<String> = [
            ring.agent_secret("new", &id, 1),
            ring.agent_secret("old", &id, 1),
            ring.agent_secret("new", &other, 1),
            ring.agent_secret("new", &id, 2),
            Some(ring.agent_secret_of_nobody()),
        ]
        .into_iter()
        .map(|secret| secret.expect("the ring has both").expose().to_owned())
        .collect();
        let distinct: HashSet<&String> = secrets.iter().collect();
        assert_eq!(distinct.len(), secrets.len());
        assert!(ring.agent_secret("gone", &id, 1).is_none());
        let again = two().agent_secret("new", &id, 1).expect("the ring has it");
        assert_eq!(
            again.expose(),
            secrets[0],
            "secrets are derived, not stored"
        );
    }

    #[test]
    fn a_secret_is_what_the_contract_says() {
        // Held against HKDF and base64 of another library (Python's), so that neither may change unseen: rings outlive
        // versions.
        let id: KeyId = "ofk_0123456789abcdefzzhh".parse().expect("an id");
        let secret = ring(&format!("k:{}", "0b".repeat(32))).agent_secret("k", &id, 7);
        assert_eq!(
            secret.expect("the ring has it").expose(),
            "ofs_OQvjD6kKzAhFm7ZntJO7I2uw3T-bjkt_wJfTqANq4FoAQlHIA"
        );
    }

    #[test]
    fn a_webhook_secret_is_what_the_documents_say() {
        // Held against Python's hmac and base64, as the one above.
        let ring = ring(&format!("k:{}", "0b".repeat(32)));
        let alice = Owner::user("alice");
        let secret = ring
            .webhook_secret("k", &alice, 7)
            .expect("the ring has it");
        assert_eq!(
            secret.expose().as_str(),
            "whsec_AznuKxuU4lHNORvJ8DTV13f2ZygTEUKbBm2187SDF1Y="
        );
        let others = [
            ring.webhook_secret("k", &Owner::user("bob"), 7),
            ring.webhook_secret("k", &Owner::key("alice"), 7),
            ring.webhook_secret("k", &alice, 8),
        ];
        for other in others {
            let other = other.expect("the ring has it");
            assert_ne!(other.expose().as_str(), secret.expose().as_str());
        }
        assert!(ring.webhook_secret("gone", &alice, 7).is_none());
    }

    #[test]
    fn names_and_fingerprints_tell_the_masters_apart() {
        let ring = two();
        assert_eq!(ring.names().collect::<Vec<_>>(), ["new", "old"]);
        assert_eq!(ring.signing_name(), "new");
        let signing = ring.signing(KeyUse::Audit);
        let named = |name| ring.named(name, KeyUse::Audit);
        assert_eq!(named("new").expect("there").expose(), signing.expose());
        assert_ne!(named("old").expect("there").expose(), signing.expose());
        assert!(named("gone").is_none());

        let prints = ring.fingerprints();
        assert_eq!(prints, two().fingerprints());
        assert_eq!(prints.len(), 2);
        assert_ne!(prints[0].1, prints[1].1);
        assert_ne!(prints[0].1, [1; 32], "the key itself isn't shown");
        assert_ne!(
            prints[0].1.as_slice(),
            signing.expose(),
            "nor is one that is in use"
        );
    }
}
