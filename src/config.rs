//! Every setting, read once and checked once. Nothing else reads the environment.

use std::{net::SocketAddr, path::PathBuf};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

pub mod environment;
mod values;

pub use values::reachable;

/// What this process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves clients and computes.
    All,
    /// Serves clients.
    Api,
    /// Computes.
    Worker,
}

impl Role {
    /// As it is written in settings and shown of nodes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }

    /// Whether it takes conversions from the queue.
    #[must_use]
    pub fn computes(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    /// Whether it answers clients.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }
}

/// The settings under their own names: environment variables in upper case, keys of `orfeas.toml` in lower case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Let batches grow and shrink with measured memory, up to what the model allows.
    pub enable_dynamic_scaling: bool,
    /// Let programs in that sign with API keys.
    pub enable_agent_api: bool,
    /// Requests a minute of a key for which nothing else was said.
    pub agent_max_requests_per_minute: u32,
    /// Conversions queued and running at a time of such a key.
    pub agent_max_conversions_at_once: u32,
    /// Conversions a UTC day of such a key.
    pub agent_max_conversions_per_day: u32,
    /// Bytes of pictures and meshes that a key may keep; unset: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_max_stored_bytes: Option<u64>,
    /// Images in one submission at most.
    pub agent_max_batch_size: u32,
    /// Submissions a minute of a person.
    pub user_max_requests_per_minute: u32,
    /// Conversions of a person queued and running at a time.
    pub user_max_conversions_at_once: u32,
    /// Conversions of a person a UTC day.
    pub user_max_conversions_per_day: u32,
    /// Bytes of pictures and meshes that a person may keep; unset: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_max_stored_bytes: Option<u64>,
    /// What a GPU batch aims at while the GPU is busy.
    pub batch_size_min: u32,
    /// The largest GPU batch, unless dynamic scaling raises it.
    pub batch_size_max: u32,
    /// The longest a conversion may wait for company.
    pub batch_timeout_seconds: f64,
    /// `postgres://…`; unset: the embedded Postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// `file:///…` or `s3://…`; unset: a folder in the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_storage: Option<String>,
    /// Where the embedded Postgres, the keys and local assets live.
    pub orfeas_data_dir: PathBuf,
    /// Address and port of the API.
    pub orfeas_listen: SocketAddr,
    /// How clients reach the API, for download URLs; unset: the listening address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_public_url: Option<String>,
    /// `all`, `api` or `worker`.
    pub orfeas_role: Role,
    /// `auto`, `cpu`, `cuda` or `cuda:0,1`.
    pub orfeas_device: String,
    /// Folder of the models; unset: `models` beside the binary or in the checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_models_dir: Option<PathBuf>,
    /// The model of conversions that name none.
    pub orfeas_default_model: String,
    /// `name:64 hex digits`, several by commas, the first signs; unset: made and kept in the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_master_keys: Option<String>,
    /// Who must have issued people's tokens (`iss`); unset: anybody whose key counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_jwt_issuer: Option<String>,
    /// Whom tokens must be meant for (`aud`); unset: not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_jwt_audience: Option<String>,
    /// File or URL of the identity provider's keys (RFC 7517); unset: the server's own tokens alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_jwt_jwks: Option<String>,
    /// The studio's client id at the identity provider; set: its sign-in page offers the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_jwt_client_id: Option<String>,
    /// What the studio asks the identity provider for, separated by blanks; `offline_access` keeps people signed in.
    pub orfeas_jwt_scopes: String,
    /// Origins whose pages may call the API, separated by commas; unset: none but the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_cors_origins: Option<String>,
    /// Networks of proxies whose `X-Forwarded-For` is believed, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_trusted_proxies: Option<String>,
    /// Whether everybody may read the schema from the server; else only admins.
    pub orfeas_introspection: bool,
    /// Manifest of documents that clients may name (graphql-codegen's, Relay's or Apollo's); unset: the studio's alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_trusted_documents: Option<PathBuf>,
    /// Whether everybody but admins is held to such documents and the studio's.
    pub orfeas_trusted_documents_only: bool,
    /// How long conversions are kept after their end, with their pictures and meshes: `90d`, `36h`, `30m`; unset: until somebody
    /// deletes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_retention: Option<String>,
    /// How long the audit log is kept, in days.
    pub orfeas_audit_retention_days: u32,
    /// Conversions that may wait for all clients together; more are refused with `OVERLOADED`.
    pub orfeas_queue_max: u32,
    /// Seconds that the one which has waited longest may have waited before no more are let in; 0: however long.
    pub orfeas_queue_age_max: u32,
    /// Bytes of one image at most.
    pub orfeas_max_upload_bytes: u64,
    /// Pixels of one image at most.
    pub orfeas_max_pixels: u64,
    /// Networks that clients' URLs may lead to though they aren't public, over http:// as well, separated by commas.
    /// Every port from 1024 up that answers HTTP there is open to clients' GET and POST requests; unset: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_egress_allow: Option<String>,
    /// The longest the server waits for a picture behind a URL; three times that for a whole batch.
    pub orfeas_fetch_timeout_seconds: f64,
    /// Address and port of `/metrics`.
    pub orfeas_metrics_listen: SocketAddr,
    /// Folder of a Postgres installation for the embedded one; unset: found beside the binary or in the checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orfeas_postgres_dir: Option<PathBuf>,
    /// What is logged, in the syntax of `tracing`'s `EnvFilter`.
    pub orfeas_log: String,
    /// One JSON object a line instead of text.
    pub orfeas_log_json: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enable_dynamic_scaling: true,
            enable_agent_api: true,
            agent_max_requests_per_minute: 100,
            agent_max_conversions_at_once: 100,
            agent_max_conversions_per_day: 10_000,
            agent_max_stored_bytes: None,
            agent_max_batch_size: 16,
            user_max_requests_per_minute: 10,
            user_max_conversions_at_once: 50,
            user_max_conversions_per_day: 1_000,
            user_max_stored_bytes: None,
            batch_size_min: 2,
            batch_size_max: 8,
            batch_timeout_seconds: 5.0,
            database_url: None,
            orfeas_storage: None,
            orfeas_data_dir: PathBuf::from("data"),
            orfeas_listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            orfeas_public_url: None,
            orfeas_role: Role::All,
            orfeas_device: "auto".into(),
            orfeas_models_dir: None,
            orfeas_default_model: "orfeas-mini".into(),
            orfeas_master_keys: None,
            orfeas_jwt_issuer: None,
            orfeas_jwt_audience: None,
            orfeas_jwt_jwks: None,
            orfeas_jwt_client_id: None,
            orfeas_jwt_scopes: "openid profile".into(),
            orfeas_cors_origins: None,
            orfeas_trusted_proxies: None,
            orfeas_introspection: true,
            orfeas_trusted_documents: None,
            orfeas_trusted_documents_only: false,
            orfeas_retention: None,
            orfeas_audit_retention_days: 400,
            orfeas_queue_max: 10_000,
            orfeas_queue_age_max: 0,
            orfeas_max_upload_bytes: 20 << 20,
            orfeas_max_pixels: 50_000_000,
            orfeas_egress_allow: None,
            orfeas_fetch_timeout_seconds: 20.0,
            orfeas_metrics_listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
            orfeas_postgres_dir: None,
            orfeas_log: "info,sqlx=warn,sea_orm_migration=warn".into(),
            orfeas_log_json: false,
        }
    }
}

/// A setting that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value of the wrong type or an unknown key, with its place.
    #[error("the settings can't be used: {0}")]
    Read(Box<figment::Error>),
    /// A value out of range.
    #[error("the setting {name} can't be used: {message}")]
    Value { name: &'static str, message: String },
    /// The master keys can't be read or made.
    #[error(transparent)]
    Keys(#[from] crate::auth::keyring::KeyringError),
}

impl Settings {
    /// The settings in force: defaults, then `orfeas.toml` in the working folder, then the environment.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and what is wrong with it.
    pub fn load() -> Result<Self, ConfigError> {
        let defaults = Self::default();
        let names: Vec<String> = Self::names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let settings: Self = Figment::from(Serialized::defaults(&defaults))
            .merge(Toml::file("orfeas.toml"))
            .merge(Env::raw().only(&names))
            .extract()
            .map_err(|error| ConfigError::Read(Box::new(error)))?;
        settings.checked()
    }

    /// The names of all settings, as keys of `orfeas.toml`.
    #[must_use]
    pub fn names() -> Vec<String> {
        let full = Self {
            agent_max_stored_bytes: Some(0),
            user_max_stored_bytes: Some(0),
            orfeas_retention: Some(String::new()),
            database_url: Some(String::new()),
            orfeas_storage: Some(String::new()),
            orfeas_public_url: Some(String::new()),
            orfeas_models_dir: Some(PathBuf::new()),
            orfeas_master_keys: Some(String::new()),
            orfeas_jwt_issuer: Some(String::new()),
            orfeas_jwt_audience: Some(String::new()),
            orfeas_jwt_jwks: Some(String::new()),
            orfeas_jwt_client_id: Some(String::new()),
            orfeas_cors_origins: Some(String::new()),
            orfeas_trusted_proxies: Some(String::new()),
            orfeas_trusted_documents: Some(PathBuf::new()),
            orfeas_egress_allow: Some(String::new()),
            orfeas_postgres_dir: Some(PathBuf::new()),
            ..Self::default()
        };
        let value = serde_json::to_value(full).expect("plain data has a JSON form");
        value
            .as_object()
            .expect("a struct becomes an object")
            .keys()
            .cloned()
            .collect()
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let refuse = |name, message: &str| {
            Err(ConfigError::Value {
                name,
                message: message.into(),
            })
        };
        if self.batch_size_min == 0 || self.batch_size_min > self.batch_size_max {
            return refuse("BATCH_SIZE_MIN", "it must lie in 1..BATCH_SIZE_MAX");
        }
        if !(0.0..=3600.0).contains(&self.batch_timeout_seconds) {
            return refuse("BATCH_TIMEOUT_SECONDS", "it must lie in 0..3600");
        }
        if !(0.1..=120.0).contains(&self.orfeas_fetch_timeout_seconds) {
            return refuse("ORFEAS_FETCH_TIMEOUT_SECONDS", "it must lie in 0.1..120");
        }
        if !(1..=256).contains(&self.agent_max_batch_size) {
            return refuse("AGENT_MAX_BATCH_SIZE", "it must lie in 1..256");
        }
        self.retention()?;
        if self.orfeas_queue_max < self.agent_max_batch_size {
            return refuse(
                "ORFEAS_QUEUE_MAX",
                "a submission of AGENT_MAX_BATCH_SIZE images must fit in",
            );
        }
        if self.orfeas_role != Role::All && self.database_url.is_none() {
            return refuse(
                "DATABASE_URL",
                "nodes with a role of their own share a Postgres: set its URL",
            );
        }
        Ok(self)
    }

    /// The settings as `orfeas.toml` would hold them, secrets hidden.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut shown = self.clone();
        let hide = |secret: &mut Option<String>| {
            if let Some(value) = secret {
                *value = "(hidden)".into();
            }
        };
        hide(&mut shown.orfeas_master_keys);
        if let Some(url) = &mut shown.database_url
            && let Ok(mut parsed) = url::Url::parse(url)
            && parsed.password().is_some()
            && parsed.set_password(Some("hidden")).is_ok()
        {
            *url = parsed.into();
        }
        toml::to_string(&shown).expect("plain data has a TOML form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_a_setting() {
        let names = Settings::names();
        assert!(
            names.contains(&"database_url".into()) && names.contains(&"orfeas_postgres_dir".into())
        );
        assert_eq!(
            names.len(),
            46,
            "a new optional setting must be listed in `names`, or the environment can't set it"
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = Settings {
            orfeas_master_keys: Some("a:00ff".into()),
            database_url: Some("postgres://me:geheim@db/orfeas".into()),
            ..Settings::default()
        };
        let shown = settings.shown();
        assert!(
            !shown.contains("00ff") && !shown.contains("geheim") && shown.contains("me:hidden@db"),
            "{shown}"
        );
    }

    #[test]
    fn networks_are_read_and_refused_by_name() {
        let egress = |text: &str| {
            let settings = Settings {
                orfeas_egress_allow: Some(text.into()),
                ..Settings::default()
            };
            settings.egress()
        };
        assert_eq!(egress("").expect("none").allowed.len(), 0);
        assert_eq!(egress("10.0.0.0/8, ::1").expect("two").allowed.len(), 2);
        let error = egress("intranet").expect_err("no network").to_string();
        assert!(error.contains("ORFEAS_EGRESS_ALLOW"), "{error}");
    }

    #[test]
    fn senseless_values_are_refused_by_name() {
        let error = |settings: Settings| settings.checked().expect_err("senseless").to_string();
        assert!(
            error(Settings {
                batch_size_min: 9,
                ..Default::default()
            })
            .contains("BATCH_SIZE_MIN")
        );
        assert!(
            error(Settings {
                batch_timeout_seconds: f64::NAN,
                ..Default::default()
            })
            .contains("BATCH_TIMEOUT")
        );
        assert!(
            error(Settings {
                orfeas_retention: Some("90".into()),
                ..Default::default()
            })
            .contains("ORFEAS_RETENTION")
        );
        assert!(
            error(Settings {
                orfeas_role: Role::Api,
                ..Default::default()
            })
            .contains("DATABASE_URL")
        );
        assert!(
            error(Settings {
                orfeas_queue_max: 15,
                ..Default::default()
            })
            .contains("ORFEAS_QUEUE_MAX")
        );
    }
}
