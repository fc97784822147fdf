//! What settings mean: the typed values behind their texts.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{ConfigError, Settings};
use crate::{
    auth::{
        jwt::Parties,
        keyring::Keyring,
        network::{NetworkError, parse_networks},
        principal::Quotas,
    },
    db::backlog::BacklogLimits,
    egress::EgressOptions,
    graphql::{StoredLimits, documents::DocumentOptions},
    http::{
        client_address::TrustedProxies,
        origin::{OriginError, Origins},
        studio::provider::{Provider, ProviderError},
    },
    image::ImageLimits,
    inference::device::{DeviceChoice, DeviceChoiceError},
};

/// A hundred years: what is longer is no time to wait for.
const RETENTION_DAYS_MAX: u64 = 36_500;

impl Settings {
    /// The longest a conversion may wait for company.
    #[must_use]
    pub fn batch_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.batch_timeout_seconds)
    }

    /// What may wait in the queue.
    #[must_use]
    pub fn backlog_limits(&self) -> BacklogLimits {
        let age_max = Duration::from_secs(self.orfeas_queue_age_max.into());
        BacklogLimits {
            depth_max: self.orfeas_queue_max.into(),
            age_max: (!age_max.is_zero()).then_some(age_max),
        }
    }

    /// What a picture may weigh.
    #[must_use]
    pub fn image_limits(&self) -> ImageLimits {
        ImageLimits {
            bytes_max: self.orfeas_max_upload_bytes,
            pixels_max: self.orfeas_max_pixels,
        }
    }

    /// What computes.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn device(&self) -> Result<DeviceChoice, ConfigError> {
        let refused = |error: DeviceChoiceError| ConfigError::Value {
            name: "ORFEAS_DEVICE",
            message: error.to_string(),
        };
        self.orfeas_device.parse().map_err(refused)
    }

    /// Who issues people's tokens, and for whom.
    #[must_use]
    pub fn token_parties(&self) -> Parties {
        Parties {
            issuer: self.orfeas_jwt_issuer.clone(),
            audience: self.orfeas_jwt_audience.clone(),
        }
    }

    /// How much a person may use.
    #[must_use]
    pub fn user_quotas(&self) -> Quotas {
        Quotas {
            requests_per_minute: self.user_max_requests_per_minute,
            conversions_at_once: Some(self.user_max_conversions_at_once),
            conversions_per_day: Some(self.user_max_conversions_per_day),
            images_per_batch: self.agent_max_batch_size,
        }
    }

    /// How much a key may use for which nothing else was said.
    #[must_use]
    pub fn agent_quotas(&self) -> Quotas {
        Quotas {
            requests_per_minute: self.agent_max_requests_per_minute,
            conversions_at_once: Some(self.agent_max_conversions_at_once),
            conversions_per_day: Some(self.agent_max_conversions_per_day),
            images_per_batch: self.agent_max_batch_size,
        }
    }

    /// What owners' assets may take.
    #[must_use]
    pub fn stored_limits(&self) -> StoredLimits {
        StoredLimits {
            key_bytes_max: self.agent_max_stored_bytes,
            person_bytes_max: self.user_max_stored_bytes,
        }
    }

    /// How long conversions are kept after their end; `None`: until somebody deletes them.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn retention(&self) -> Result<Option<Duration>, ConfigError> {
        let Some(text) = &self.orfeas_retention else {
            return Ok(None);
        };
        let refused = || ConfigError::Value {
            name: "ORFEAS_RETENTION",
            message: format!(
                "`{text}` is no time: a number and d, h or m, as in 90d, from 1m to {RETENTION_DAYS_MAX}d"
            ),
        };
        let (number, unit) = text
            .char_indices()
            .next_back()
            .map(|(at, unit)| (&text[..at], unit))
            .ok_or_else(refused)?;
        let seconds = match unit {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            _ => return Err(refused()),
        };
        let kept = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(seconds))
            .map(Duration::from_secs)
            .ok_or_else(refused)?;
        let range = Duration::from_secs(60)..=Duration::from_secs(RETENTION_DAYS_MAX * 86_400);
        if range.contains(&kept) {
            Ok(Some(kept))
        } else {
            Err(refused())
        }
    }

    /// How clients reach the API, where that is said.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn public_url(&self) -> Result<Option<url::Url>, ConfigError> {
        let parse = |text: &String| {
            let url: Result<url::Url, _> = text.parse();
            url.map_err(|error| ConfigError::Value {
                name: "ORFEAS_PUBLIC_URL",
                message: error.to_string(),
            })
        };
        self.orfeas_public_url.as_ref().map(parse).transpose()
    }

    /// Where people find the studio.
    #[must_use]
    pub fn studio_url(&self) -> String {
        let own = || reachable(self.orfeas_listen);
        self.orfeas_public_url.clone().unwrap_or_else(own)
    }

    /// The networks whose word on a client's address is believed.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn trusted_proxies(&self) -> Result<TrustedProxies, ConfigError> {
        let text = self.orfeas_trusted_proxies.as_deref().unwrap_or_default();
        text.parse()
            .map_err(|error: NetworkError| ConfigError::Value {
                name: "ORFEAS_TRUSTED_PROXIES",
                message: error.to_string(),
            })
    }

    /// Where clients' URLs may lead.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn egress(&self) -> Result<EgressOptions, ConfigError> {
        let text = self.orfeas_egress_allow.as_deref().unwrap_or_default();
        let allowed = parse_networks(text).map_err(|error| ConfigError::Value {
            name: "ORFEAS_EGRESS_ALLOW",
            message: error.to_string(),
        })?;
        Ok(EgressOptions {
            allowed,
            ..EgressOptions::default()
        })
    }

    /// The longest the server waits for a picture behind a URL.
    #[must_use]
    pub fn fetch_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.orfeas_fetch_timeout_seconds)
    }

    /// Other origins whose pages may call the API.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn cors_origins(&self) -> Result<Origins, ConfigError> {
        let refused = |error: OriginError| ConfigError::Value {
            name: "ORFEAS_CORS_ORIGINS",
            message: error.to_string(),
        };
        let text = self.orfeas_cors_origins.as_deref().unwrap_or_default();
        text.parse().map_err(refused)
    }

    /// The identity provider that the studio's sign-in page offers; `None` when it has no name there.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn provider(&self) -> Result<Option<Provider>, ConfigError> {
        let Some(client_id) = &self.orfeas_jwt_client_id else {
            return Ok(None);
        };
        let refused = |error: ProviderError| ConfigError::Value {
            name: "ORFEAS_JWT_CLIENT_ID",
            message: error.to_string(),
        };
        let issuer = self.orfeas_jwt_issuer.as_deref();
        let issuer = issuer.ok_or_else(|| refused(ProviderError::NoIssuer))?;
        if self.orfeas_jwt_jwks.is_none() {
            return Err(refused(ProviderError::NoKeys));
        }
        let audience = self.orfeas_jwt_audience.as_deref();
        Provider::new(issuer, client_id, &self.orfeas_jwt_scopes, audience)
            .map(Some)
            .map_err(refused)
    }

    /// Which documents clients may name, and whether they may send others.
    #[must_use]
    pub fn documents(&self) -> DocumentOptions {
        DocumentOptions {
            manifest: self.orfeas_trusted_documents.clone(),
            trusted_only: self.orfeas_trusted_documents_only,
        }
    }

    /// Where assets are kept.
    #[must_use]
    pub fn assets_dir(&self) -> PathBuf {
        self.orfeas_data_dir.join("assets")
    }

    /// The ring of master keys: from the setting, or from the data folder, made when missing.
    ///
    /// # Errors
    /// [`ConfigError::Keys`].
    pub fn keyring(&self) -> Result<Keyring, ConfigError> {
        Ok(match &self.orfeas_master_keys {
            Some(text) => text.parse()?,
            None => Keyring::load_or_make(&self.orfeas_data_dir)?,
        })
    }

    /// The folder of the models, or the places where none was found.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn models_dir(&self) -> Result<PathBuf, ConfigError> {
        if let Some(dir) = &self.orfeas_models_dir {
            return Ok(dir.clone());
        }
        let program = std::env::current_exe().unwrap_or_default();
        // Beside an installed binary, in a checkout's target/<profile>/[deps/], or where one stands.
        let candidates = program
            .ancestors()
            .skip(1)
            .take(4)
            .map(|folder| folder.join("models"));
        candidates
            .chain([PathBuf::from("models")])
            .find(|dir| has_model(dir))
            .ok_or_else(|| ConfigError::Value {
                name: "ORFEAS_MODELS_DIR",
                message:
                    "no models folder was found beside the program or in the working folder: set it"
                        .into(),
            })
    }
}

/// Where a client on this machine reaches a listener that may listen on all addresses.
#[must_use]
pub fn reachable(listening: SocketAddr) -> String {
    let mut address = listening;
    if listening.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}

fn has_model(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.path().join("model.toml").is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_a_number_and_a_unit() {
        let read = |text: &str| {
            let settings = Settings {
                orfeas_retention: Some(text.into()),
                ..Settings::default()
            };
            settings
                .retention()
                .map(|kept| kept.map(|kept| kept.as_secs()))
        };
        for (text, seconds) in [("90d", 90 * 86_400), ("36h", 36 * 3_600), ("1m", 60)] {
            assert_eq!(read(text).expect("a time"), Some(seconds), "{text}");
        }
        for text in [
            "",
            "d",
            "90",
            "0d",
            "-1d",
            "1.5d",
            "30 d",
            "10s",
            "36501d",
            "999999999999999d",
            "9é",
        ] {
            let error = read(text).expect_err("no time").to_string();
            assert!(error.contains("ORFEAS_RETENTION"), "{error}");
        }
        assert_eq!(Settings::default().retention().expect("nothing"), None);
    }
}
