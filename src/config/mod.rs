//! The configuration of a process. Come here to add a setting, a check or a startup warning.
//!
//! * [`settings`] is the table of settings, [`Settings`] their merged text values, and [`parsers`] the functions that
//!   validate them.
//! * [`Config`] is the typed result, with one struct per area.
//! * A [`ConfigError`] stops startup with one line. [`Config::warnings`] lists valid but risky settings.
//!
//! # Invariants
//!
//! * All settings are read here, once, before anything else starts.
//! * An error or warning never quotes a secret.
//! * Nothing here opens a file, socket or database, except the TOML file named by `--config`.

mod http_config;
mod key_config;
mod mail_config;
pub mod parsers;
pub mod settings;
mod sign_in_config;
mod sources;

use std::time::Duration;

use crate::domain::address::AddressPolicy;
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::deliveries::delivery_settings::DeliverySettings;
use crate::domain::signing::secret::SignatureType;
use crate::egress::{EgressOptions, EgressProxy};
use crate::store::{Connections, Location, Tuning};
pub use http_config::HttpConfig;
pub use key_config::{KeyConfig, jwt_secret, master_key};
pub use mail_config::MailConfig;
use parsers::{count_within, size_within, span_within};
pub use sign_in_config::SignInConfig;
pub use sources::{ConfigError, Settings};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// Maximum timeout of an endpoint.
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Well below the 60 s within which every request is answered.
const MAX_BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The validated configuration.
#[derive(Debug)]
pub struct Config {
    pub store: StoreConfig,
    pub keys: KeyConfig,
    pub http: HttpConfig,
    pub role: Role,
    pub egress: EgressOptions,
    pub delivery: DeliveryConfig,
    /// `None`: no mail is sent.
    pub mail: Option<MailConfig>,
    pub sign_in: SignInConfig,
    pub log: LogConfig,
    /// Valid but risky settings, one line each.
    pub warnings: Vec<String>,
}

/// The database, its limits and its retention.
#[derive(Debug)]
pub struct StoreConfig {
    pub location: Location,
    pub tuning: Tuning,
    /// Bytes.
    pub max_payload: usize,
    /// Per application.
    pub max_endpoints: usize,
    pub retention: Duration,
    /// For the secrets, headers and metadata of deleted endpoints and applications.
    pub deleted_retention: Duration,
}

/// The parts of Sendoff that run in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    All,
    /// The REST API and the dashboard.
    Api,
    /// The engine, and the probes over HTTP.
    Worker,
}

impl Role {
    /// Whether the process serves the REST API and the dashboard.
    pub fn serves(self) -> bool {
        self != Role::Worker
    }

    /// Whether the process runs the delivery engine.
    pub fn sends(self) -> bool {
        self != Role::Api
    }
}

/// Settings of the delivery engine.
#[derive(Debug)]
pub struct DeliveryConfig {
    pub settings: DeliverySettings,
    /// For new endpoints that name neither a type nor a secret.
    pub signature_type: SignatureType,
}

/// Log filter and format.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Parses and checks all settings.
    ///
    /// # Errors
    /// The first invalid setting.
    pub fn new(settings: &Settings) -> Result<Config, ConfigError> {
        let store = StoreConfig::new(settings)?;
        let config = Config {
            keys: KeyConfig::new(settings, &store.location)?,
            http: HttpConfig::new(settings)?,
            role: role(settings, &store.location)?,
            egress: egress(settings)?,
            delivery: DeliveryConfig::new(settings)?,
            mail: MailConfig::new(settings)?,
            sign_in: SignInConfig::new(settings)?,
            log: LogConfig::new(settings)?,
            warnings: Vec::new(),
            store,
        };
        let warnings = [config.keys.unused_key_warning(settings), config.risk_warnings()].concat();
        Ok(Config { warnings, ..config })
    }

    fn risk_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (drain, retention) = (self.delivery.settings.drain, self.store.retention);
        if drain < MAX_REQUEST_TIMEOUT {
            warnings.push(format!(
                "SENDOFF_DRAIN ({drain:?}) is shorter than the maximum timeout of an endpoint ({MAX_REQUEST_TIMEOUT:?}): \
                 attempts cut off at shutdown will be sent twice"
            ));
        }
        let retries: Duration = self.delivery.settings.schedule.waits().iter().sum();
        if retries > retention {
            warnings.push(format!(
                "SENDOFF_RETENTION ({retention:?}) is shorter than all of SENDOFF_RETRY_SCHEDULE ({retries:?}): messages \
                 will be removed before their last retries"
            ));
        }
        if let Some(mail) = self.mail.as_ref().filter(|_| self.role.sends()) {
            warnings.extend(mail.plaintext_password_warning());
            if self.http.portal_link().is_none() {
                let name = if self.http.portal_listen.is_some() { "SENDOFF_PORTAL_URL" } else { "SENDOFF_PUBLIC_URL" };
                warnings.push(format!("SENDOFF_SMTP_URL is set but {name} is not: mails will contain no link"));
            }
        }
        if self.role.serves() {
            warnings.extend(self.http.exposure_warnings());
        }
        warnings
    }
}

impl StoreConfig {
    fn new(settings: &Settings) -> Result<StoreConfig, ConfigError> {
        Ok(StoreConfig {
            location: settings
                .parse("database_url", |text| Location::parse(text).map_err(|_| "is not a database URL".to_owned()))?,
            max_payload: settings.parse("max_payload", size_within(1 << 10, 16 << 20))?,
            max_endpoints: settings.parse("max_endpoints", count_within(1, 1_000_000))?,
            tuning: Tuning {
                connections: settings
                    .parse("database_connections", count_within(Connections::LEAST, Connections::MOST))
                    .map(Connections::up_to)?,
                busy_timeout: settings.parse("sqlite_busy_timeout", span_within(SECOND / 10, MAX_BUSY_TIMEOUT))?,
            },
            retention: settings.parse("retention", span_within(MINUTE, 3_650 * DAY))?,
            deleted_retention: settings.parse("deleted_retention", span_within(MINUTE, 3_650 * DAY))?,
        })
    }
}

fn role(settings: &Settings, location: &Location) -> Result<Role, ConfigError> {
    let role = settings.parse("role", |text| match text {
        "all" => Ok(Role::All),
        "api" => Ok(Role::Api),
        "worker" => Ok(Role::Worker),
        _ => Err("is not a role".to_owned()),
    })?;
    match location {
        Location::Sqlite(_) if role != Role::All => {
            Err(settings
                .error("role", "needs PostgreSQL (SENDOFF_DATABASE_URL): a single process serves an SQLite file"))
        }
        _ => Ok(role),
    }
}

fn egress(settings: &Settings) -> Result<EgressOptions, ConfigError> {
    let bypass = settings.parse("egress_no_proxy", parsers::hosts_and_networks)?;
    Ok(EgressOptions {
        policy: AddressPolicy {
            allow: settings.parse("egress_allow", parsers::networks)?,
            https_only: settings.parse("https_only", parsers::boolean)?,
        },
        proxy: settings.parse_optional("egress_proxy", |url| EgressProxy::new(url, &bypass))?,
        name_servers: settings.parse("egress_dns", parsers::name_servers)?,
    })
}

impl DeliveryConfig {
    fn new(settings: &Settings) -> Result<DeliveryConfig, ConfigError> {
        let max_in_flight = settings.parse("max_in_flight", count_within(1, 65_536))?;
        // `max_in_flight` alone also lowers the default of `endpoint_max_in_flight`; setting both requires that they
        // fit.
        let most = if settings.is_set("endpoint_max_in_flight") { max_in_flight } else { usize::MAX };
        let endpoint_max_in_flight = settings.parse("endpoint_max_in_flight", count_within(1, most))?;
        let signature_type = settings.parse("signature_type", |text| {
            SignatureType::from_word(text).ok_or_else(|| "is not a signature type".to_owned())
        })?;
        let settings = DeliverySettings {
            schedule: settings.parse("retry_schedule", |text| {
                RetrySchedule::new("", parsers::spans(text)?).map_err(|wrong| wrong.reason)
            })?,
            timeout: settings.parse("request_timeout", span_within(SECOND, MAX_REQUEST_TIMEOUT))?,
            max_in_flight,
            endpoint_max_in_flight: endpoint_max_in_flight.min(max_in_flight),
            drain: settings.parse("drain", span_within(SECOND, 60 * MINUTE))?,
            disable_after: settings.parse("endpoint_disable_after", span_within(SECOND, 365 * DAY))?,
            consumer_silent_after: settings.parse("consumer_silent_after", span_within(5 * MINUTE, 365 * DAY))?,
        };
        Ok(DeliveryConfig { settings, signature_type })
    }
}

impl LogConfig {
    fn new(settings: &Settings) -> Result<LogConfig, ConfigError> {
        let format = settings.parse("log_format", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("is not a log format".to_owned()),
        })?;
        Ok(LogConfig { filter: settings.parse("log", parsers::log_filter)?, format })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_of_max_endpoints_is_the_stores() {
        let settings = Settings::from_sources(|_| None, |_| None).unwrap();
        assert_eq!(StoreConfig::new(&settings).unwrap().max_endpoints, crate::store::DEFAULT_MAX_ENDPOINTS);
    }
}
