//! API keys as nodes hold them: the row, and the secrets derived from it. A copy may be old; the statement that admits
//! a request looks at the row itself.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use time::OffsetDateTime;

use crate::{
    auth::{
        api_key::{AgentSecret, KeyId},
        keyring::Keyring,
        principal::{Credential, Principal},
        signature::SignedRequest,
    },
    conversion::{Owner, Priority},
    db::{Database, DatabaseError, entities::api_key},
};

/// How long a copy is used without looking again. The permissions of a changed key come sooner: by its version.
const FRESH: Duration = Duration::from_secs(10);
/// How often a key is read again because a signature doesn't match its copy: a bound on what wrong signatures cost.
const READ_AGAIN_EVERY: Duration = Duration::from_millis(500);
/// Copies kept, those of unknown ids among them; above that all are dropped and read anew.
const KEYS_MAX: usize = 10_000;

/// A key with what is needed to check its signatures.
#[derive(Debug)]
pub struct CachedKey {
    pub row: api_key::Model,
    /// The secrets that may count now, with their generations; the statement that admits decides.
    pub secrets: Vec<(i32, AgentSecret)>,
    networks: Vec<IpNet>,
}

impl CachedKey {
    fn new(row: api_key::Model, keyring: &Keyring) -> Self {
        let derive = |master: &str, generation: i32| {
            let secret = keyring.agent_secret(master, &row.id, generation.unsigned_abs())?;
            Some((generation, secret))
        };
        let in_grace = row
            .previous_until
            .is_some_and(|until| until > OffsetDateTime::now_utc());
        let previous = row.previous_master.as_deref().filter(|_| in_grace);
        let secrets = derive(&row.master, row.generation)
            .into_iter()
            .chain(previous.and_then(|master| derive(master, row.generation - 1)))
            .collect();
        let networks = row.networks.iter().flatten();
        Self {
            secrets,
            networks: networks.filter_map(|text| text.parse().ok()).collect(),
            row,
        }
    }

    /// Which of the key's secrets signed a request. All are tried, so that the time does not tell which it was.
    #[must_use]
    pub fn signing_generation(&self, signed: &SignedRequest) -> Option<i32> {
        let mut found = None;
        for (generation, secret) in &self.secrets {
            if signed.verify(std::slice::from_ref(secret)) {
                found = Some(*generation);
            }
        }
        found
    }

    /// Whether the key may be used from an address.
    #[must_use]
    pub fn is_allowed_from(&self, address: IpAddr) -> bool {
        self.row.networks.is_none()
            || self
                .networks
                .iter()
                .any(|network| network.contains(&address))
    }

    /// The caller that the key stands for.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal {
            owner: Owner::key(self.row.id.as_str()),
            name: self.row.name.clone(),
            permissions: self.row.allowed(),
            quotas: self.row.quotas(),
            priority: Priority::Agent,
            credential: Credential::Key(self.row.id.clone()),
            expires_at: self.row.expires_at,
        }
    }
}

type Copy = (Instant, Option<Arc<CachedKey>>);

/// The copies of one node.
#[derive(Debug)]
pub struct KeyCache {
    database: Database,
    keyring: Keyring,
    copies: Mutex<HashMap<KeyId, Copy>>,
    /// When a key was last read again for a signature that did not match.
    again: Mutex<HashMap<KeyId, Instant>>,
}

impl KeyCache {
    /// No copies yet.
    #[must_use]
    pub fn new(database: Database, keyring: Keyring) -> Self {
        Self {
            database,
            keyring,
            copies: Mutex::default(),
            again: Mutex::default(),
        }
    }

    /// A key, not older than ten seconds; `None` when there is none.
    ///
    /// # Errors
    /// [`DatabaseError`] when it must be read and can't.
    pub async fn find(&self, id: &KeyId) -> Result<Option<Arc<CachedKey>>, DatabaseError> {
        let known = self.copies().get(id).cloned();
        match known {
            Some((at, key)) if at.elapsed() < FRESH => Ok(key),
            _ => self.read(id).await,
        }
    }

    /// The same key once more, when a signature did not match the copy and that may be because it is old.
    ///
    /// # Errors
    /// [`DatabaseError`] when it must be read and can't.
    pub async fn find_newer(&self, id: &KeyId) -> Result<Option<Arc<CachedKey>>, DatabaseError> {
        {
            let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
            if again
                .get(id)
                .is_some_and(|at| at.elapsed() < READ_AGAIN_EVERY)
            {
                return Ok(None);
            }
            if again.len() >= KEYS_MAX {
                again.clear();
            }
            again.insert(id.clone(), Instant::now());
        }
        self.read(id).await
    }

    /// Drops the copy of a key that has changed.
    pub fn forget(&self, id: &KeyId) {
        self.copies().remove(id);
    }

    /// Drops all copies.
    pub fn forget_all(&self) {
        self.copies().clear();
    }

    /// A key as it is now.
    ///
    /// # Errors
    /// [`DatabaseError`] when it can't be read.
    pub async fn read(&self, id: &KeyId) -> Result<Option<Arc<CachedKey>>, DatabaseError> {
        let row = self.database.key(id).await?;
        let key = row.map(|row| Arc::new(CachedKey::new(row, &self.keyring)));
        let mut copies = self.copies();
        if copies.len() >= KEYS_MAX {
            copies.clear();
        }
        copies.insert(id.clone(), (Instant::now(), key.clone()));
        Ok(key)
    }

    /// Secrets that nobody has, so that an unknown key costs what a wrong signature does.
    #[must_use]
    pub fn nobodys_secret(&self) -> AgentSecret {
        self.keyring.agent_secret_of_nobody()
    }

    fn copies(&self) -> std::sync::MutexGuard<'_, HashMap<KeyId, Copy>> {
        // Nothing panics while holding the lock; if it did, the map would still be sound.
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
