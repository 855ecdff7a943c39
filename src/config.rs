//! What this process was told, checked: one struct per concern, made in one place from [`settings`] as text.
//!
//! Whatever is wrong ends the process at once with one line ([`Fault`]); what is merely unwise is a warning in
//! [`Config::warnings`].

mod http;
mod mail;
pub mod settings;
pub mod values;

use std::time::Duration;

use zeroize::Zeroizing;

use crate::domain::access::token_key::{Algorithm, PublicKey, TokenKey};
use crate::domain::address::AddressPolicy;
use crate::domain::deliveries::backoff::Schedule;
use crate::domain::signing::secret::{MasterKey, SignatureType};
use crate::store::{Connections, Location, Tuning};
pub use http::HttpConfig;
pub use mail::MailConfig;
pub use settings::{Fault, Settings};
use values::{count_within, size_within, span_within};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// The longest timeout that an endpoint can be given.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Callers are answered within 60 s.
const LONGEST_BUSY: Duration = Duration::from_secs(30);
/// A shorter secret could be guessed offline from one token.
const JWT_SECRET_BYTES: usize = 16;

/// Everything that was set.
#[derive(Debug)]
pub struct Config {
    pub store: StoreConfig,
    pub keys: KeyConfig,
    pub http: HttpConfig,
    pub role: Role,
    pub egress: AddressPolicy,
    pub delivery: DeliveryConfig,
    /// `None`: no mail is written.
    pub mail: Option<MailConfig>,
    pub log: LogConfig,
    /// What is allowed and unwise, a line each.
    pub warnings: Vec<String>,
}

/// Where things are kept, how large they may be and how long they stay.
#[derive(Debug)]
pub struct StoreConfig {
    pub location: Location,
    pub tuning: Tuning,
    /// Bytes.
    pub max_payload: usize,
    /// Of one application.
    pub max_endpoints: usize,
    pub retention: Duration,
    /// Of deleted endpoints and applications.
    pub deleted_retention: Duration,
}

/// The keys that were given. `None` with SQLite: they lie beside the database, or are made there.
pub struct KeyConfig {
    /// How tokens are signed.
    pub algorithm: Algorithm,
    pub tokens: Option<TokenKey>,
    pub master: Option<MasterKey>,
    /// One that opens and never seals.
    pub other: Option<MasterKey>,
}

impl std::fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyConfig(redacted)")
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    All,
    /// The REST API and the dashboard.
    Api,
    /// The engine (and, over HTTP, the probes alone).
    Worker,
}

impl Role {
    /// Whether it answers over REST and shows the dashboard.
    pub fn serves(self) -> bool {
        self != Role::Worker
    }

    /// Whether it sends.
    pub fn sends(self) -> bool {
        self != Role::Api
    }
}

/// How deliveries are made.
#[derive(Debug)]
pub struct DeliveryConfig {
    pub schedule: Schedule,
    /// Of new endpoints where nothing else is said.
    pub signature_type: SignatureType,
    pub timeout: Duration,
    pub max_in_flight: usize,
    pub endpoint_max_in_flight: usize,
    pub drain: Duration,
    pub disable_after: Duration,
}

/// What is logged, and how it looks.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub filter: String,
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn new(settings: &Settings) -> Result<Config, Fault> {
        let store = StoreConfig::new(settings)?;
        let config = Config {
            keys: KeyConfig::new(settings, &store.location)?,
            http: HttpConfig::new(settings)?,
            role: role(settings, &store.location)?,
            egress: AddressPolicy {
                allow: settings.read("egress_allow", values::networks)?,
                https_only: settings.read("https_only", values::switch)?,
            },
            delivery: DeliveryConfig::new(settings)?,
            mail: MailConfig::new(settings)?,
            log: LogConfig::new(settings)?,
            warnings: Vec::new(),
            store,
        };
        let warnings = [config.keys.unused(settings), config.unwise()].concat();
        Ok(Config { warnings, ..config })
    }

    fn unwise(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (drain, delivery) = (self.delivery.drain, &self.delivery);
        if drain < LONGEST_TIMEOUT {
            warnings.push(format!(
                "SENDOFF_DRAIN ({drain:?}) is shorter than the longest timeout of an endpoint ({LONGEST_TIMEOUT:?}): what is cut off \
                 at a shutdown is sent a second time"
            ));
        }
        let whole: Duration = delivery.schedule.waits().iter().sum();
        if whole > self.store.retention {
            warnings.push(format!(
                "SENDOFF_RETENTION ({:?}) is shorter than SENDOFF_RETRY_SCHEDULE as a whole ({whole:?}): messages go before their \
                 last retries",
                self.store.retention
            ));
        }
        if let Some(mail) = self.mail.as_ref().filter(|_| self.role.sends()) {
            warnings.extend(mail.in_the_clear());
            if self.http.portal_link().is_none() {
                let name = if self.http.portal_listen.is_some() { "SENDOFF_PORTAL_URL" } else { "SENDOFF_PUBLIC_URL" };
                warnings.push(format!("SENDOFF_SMTP_URL is set and {name} is not: mails hold no link"));
            }
        }
        if self.role.serves() {
            warnings.extend(self.http.exposed());
        }
        warnings
    }
}

impl StoreConfig {
    fn new(settings: &Settings) -> Result<StoreConfig, Fault> {
        Ok(StoreConfig {
            location: settings.read("database_url", |text| {
                Location::parse(text).map_err(|_| "is neither of the two forms".to_owned())
            })?,
            max_payload: settings.read("max_payload", size_within(1 << 10, 16 << 20))?,
            max_endpoints: settings.read("max_endpoints", count_within(1, 1_000_000))?,
            tuning: Tuning {
                connections: settings
                    .read("database_connections", count_within(Connections::LEAST, Connections::MOST))
                    .map(Connections::up_to)?,
                busy_timeout: settings.read("sqlite_busy_timeout", span_within(SECOND / 10, LONGEST_BUSY))?,
            },
            retention: settings.read("retention", span_within(MINUTE, 3_650 * DAY))?,
            deleted_retention: settings.read("deleted_retention", span_within(MINUTE, 3_650 * DAY))?,
        })
    }
}

impl KeyConfig {
    fn new(settings: &Settings, location: &Location) -> Result<KeyConfig, Fault> {
        const MISSING: &str = "is missing: with PostgreSQL it has to be given, the same for every process";
        let algorithm = settings
            .read("jwt_algorithm", |text| Algorithm::from_name(text).ok_or_else(|| "is none of these".to_owned()))?;
        let secret = settings.read_given("jwt_secret", jwt_secret)?;
        let public = settings.read_given("jwt_public_key", |text| PublicKey::parse(text).map_err(str::to_owned))?;
        let master = settings.read_given("master_key", master_key)?;
        let other = settings.read_given("master_key_other", master_key)?;
        let shared = matches!(location, Location::Postgres(_));
        let tokens = match (algorithm.is_shared(), secret, public) {
            (true, Some(secret), _) => Some(TokenKey::Shared(algorithm, secret)),
            (true, None, _) if shared => return Err(settings.fault("jwt_secret", MISSING)),
            (true, None, _) => None,
            (false, _, Some(key)) if key.fits(algorithm) => Some(TokenKey::Public(algorithm, key)),
            (false, _, Some(_)) => {
                let what = format!("is of another kind than SENDOFF_JWT_ALGORITHM={algorithm} needs");
                return Err(settings.fault("jwt_public_key", &what));
            }
            (false, _, None) => {
                let what = format!("is missing: with SENDOFF_JWT_ALGORITHM={algorithm} it verifies the tokens");
                return Err(settings.fault("jwt_public_key", &what));
            }
        };
        if shared && master.is_none() {
            return Err(settings.fault("master_key", MISSING));
        }
        Ok(KeyConfig { algorithm, tokens, master, other })
    }

    /// What was given and does nothing.
    fn unused(&self, settings: &Settings) -> Vec<String> {
        let (name, unused) = match self.algorithm.is_shared() {
            true => ("jwt_public_key", "SENDOFF_JWT_PUBLIC_KEY"),
            false => ("jwt_secret", "SENDOFF_JWT_SECRET"),
        };
        let line = format!("{unused} is not used with SENDOFF_JWT_ALGORITHM={}", self.algorithm);
        settings.is_given(name).then_some(line).into_iter().collect()
    }
}

/// Checks the secret that tokens are signed with. Never quotes it.
///
/// # Errors
/// It is too short.
pub fn jwt_secret(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    match text.len() {
        bytes if bytes < JWT_SECRET_BYTES => Err(format!("has only {bytes} bytes")),
        _ => Ok(Zeroizing::new(text.as_bytes().to_vec())),
    }
}

/// Reads the master key. Never quotes it.
///
/// # Errors
/// It is not what a master key looks like.
pub fn master_key(text: &str) -> Result<MasterKey, String> {
    MasterKey::parse(text).map_err(|wrong| wrong.reason)
}

fn role(settings: &Settings, location: &Location) -> Result<Role, Fault> {
    let role = settings.read("role", |text| match text {
        "all" => Ok(Role::All),
        "api" => Ok(Role::Api),
        "worker" => Ok(Role::Worker),
        _ => Err("is no role".to_owned()),
    })?;
    match location {
        Location::Sqlite(_) if role != Role::All => {
            Err(settings
                .fault("role", "needs PostgreSQL (SENDOFF_DATABASE_URL), an SQLite file is served by one process"))
        }
        _ => Ok(role),
    }
}

impl DeliveryConfig {
    fn new(settings: &Settings) -> Result<DeliveryConfig, Fault> {
        let max_in_flight = settings.read("max_in_flight", count_within(1, 65_536))?;
        // Who lowers the whole below the default share means the share too; who sets both has to make them fit.
        let most = if settings.is_given("endpoint_max_in_flight") { max_in_flight } else { usize::MAX };
        let endpoint_max_in_flight = settings.read("endpoint_max_in_flight", count_within(1, most))?;
        Ok(DeliveryConfig {
            schedule: settings
                .read("retry_schedule", |text| Schedule::new("", values::spans(text)?).map_err(|wrong| wrong.reason))?,
            signature_type: settings
                .read("signature_type", |text| SignatureType::from_word(text).ok_or_else(|| "is neither".to_owned()))?,
            timeout: settings.read("request_timeout", span_within(SECOND, LONGEST_TIMEOUT))?,
            max_in_flight,
            endpoint_max_in_flight: endpoint_max_in_flight.min(max_in_flight),
            drain: settings.read("drain", span_within(SECOND, 60 * MINUTE))?,
            disable_after: settings.read("endpoint_disable_after", span_within(SECOND, 365 * DAY))?,
        })
    }
}

impl LogConfig {
    fn new(settings: &Settings) -> Result<LogConfig, Fault> {
        let format = settings.read("log_format", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("is neither".to_owned()),
        })?;
        Ok(LogConfig { filter: settings.read("log", values::log_filter)?, format })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_has_as_many_endpoints_as_the_table_says() {
        let settings = Settings::gather(|_| None, |_| None).unwrap();
        assert_eq!(StoreConfig::new(&settings).unwrap().max_endpoints, crate::store::ENDPOINTS);
    }
}
