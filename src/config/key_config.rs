//! Key settings: the token key and the master key.

use zeroize::Zeroizing;

use super::{ConfigError, Settings};
use crate::domain::access::token_key::{Algorithm, PublicKey, TokenKey};
use crate::domain::signing::master_key::MasterKey;
use crate::store::Location;

/// A shorter secret could be guessed offline from one token.
const MIN_JWT_SECRET_BYTES: usize = 16;

/// The configured keys. With SQLite a missing key is read from a file beside the database, which the first start
/// creates.
pub struct KeyConfig {
    /// The only accepted token algorithm.
    pub algorithm: Algorithm,
    pub tokens: Option<TokenKey>,
    /// A second token secret that verifies but never signs.
    pub other_tokens: Option<Zeroizing<Vec<u8>>>,
    pub master: Option<MasterKey>,
    /// A second master key that decrypts but never encrypts.
    pub other: Option<MasterKey>,
}

impl std::fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyConfig(redacted)")
    }
}

impl KeyConfig {
    pub(super) fn new(settings: &Settings, location: &Location) -> Result<KeyConfig, ConfigError> {
        const MISSING: &str = "is missing: PostgreSQL needs it, the same for every process";
        let algorithm = settings.parse("jwt_algorithm", |text| {
            Algorithm::from_name(text).ok_or_else(|| "is not a supported algorithm".to_owned())
        })?;
        let secret = settings.parse_optional("jwt_secret", jwt_secret)?;
        let other_tokens = settings.parse_optional("jwt_secret_other", jwt_secret)?;
        let public = settings.parse_optional("jwt_public_key", |text| PublicKey::parse(text).map_err(str::to_owned))?;
        let master = settings.parse_optional("master_key", master_key)?;
        let other = settings.parse_optional("master_key_other", master_key)?;
        let shared = matches!(location, Location::Postgres(_));
        let tokens = match (algorithm.is_shared(), secret, public) {
            (true, Some(secret), _) => Some(TokenKey::Shared(algorithm, secret)),
            (true, None, _) if shared => return Err(settings.error("jwt_secret", MISSING)),
            (true, None, _) => None,
            (false, _, Some(key)) if key.fits(algorithm) => Some(TokenKey::Public(algorithm, key)),
            (false, _, Some(_)) => {
                let what = format!("does not match SENDOFF_JWT_ALGORITHM={algorithm}");
                return Err(settings.error("jwt_public_key", &what));
            }
            (false, _, None) => {
                let what = format!("is missing: SENDOFF_JWT_ALGORITHM={algorithm} needs it to verify tokens");
                return Err(settings.error("jwt_public_key", &what));
            }
        };
        if shared && master.is_none() {
            return Err(settings.error("master_key", MISSING));
        }
        Ok(KeyConfig { algorithm, tokens, other_tokens, master, other })
    }

    /// Warns about a key that the algorithm does not use.
    pub(super) fn unused_key_warning(&self, settings: &Settings) -> Vec<String> {
        let names: &[&str] = match self.algorithm.is_shared() {
            true => &["jwt_public_key"],
            false => &["jwt_secret", "jwt_secret_other"],
        };
        let unused = names.iter().filter(|name| settings.is_set(name)).map(|name| name.to_ascii_uppercase());
        unused.map(|name| format!("SENDOFF_{name} is not used with SENDOFF_JWT_ALGORITHM={}", self.algorithm)).collect()
    }
}

/// Validates a token secret. The error never quotes it.
///
/// # Errors
/// The secret is too short.
pub fn jwt_secret(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    match text.len() {
        bytes if bytes < MIN_JWT_SECRET_BYTES => Err(format!("has only {bytes} bytes")),
        _ => Ok(Zeroizing::new(text.as_bytes().to_vec())),
    }
}

/// Parses a master key. The error never quotes it.
///
/// # Errors
/// The text is not a master key.
pub fn master_key(text: &str) -> Result<MasterKey, String> {
    MasterKey::parse(text).map_err(|wrong| wrong.reason)
}
