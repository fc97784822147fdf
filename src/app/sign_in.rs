//! Whose tokens a node takes.

use tracing::warn;

use super::AppError;
use crate::{
    auth::{
        jwks::{Cadence, Jwks, Keeper},
        jwt::Tokens,
        keyring::Keyring,
    },
    config::Settings,
};

/// The tokens of the settings, and the task that keeps the identity provider's keys fresh, if there is a provider.
///
/// # Errors
/// [`AppError::Jwks`] when `ORFEAS_JWT_JWKS` names no place, or a file without a usable key set.
pub async fn tokens(
    settings: &Settings,
    keyring: &Keyring,
) -> Result<(Tokens, Option<Keeper>), AppError> {
    let parties = settings.token_parties();
    let tokens = Tokens::new(keyring).between(parties.clone());
    let Some(location) = &settings.orfeas_jwt_jwks else {
        return Ok((tokens, None));
    };
    if parties.issuer.is_none() || parties.audience.is_none() {
        warn!(
            "Tokens that the identity provider has issued for other services count here as well: set ORFEAS_JWT_ISSUER and ORFEAS_JWT_AUDIENCE"
        );
    }
    let (jwks, keeper) = Jwks::open(location, Cadence::default()).await?;
    Ok((tokens.trusting(jwks), Some(keeper)))
}
