//! The settings as text: what there is, where each was given, and which of them counts.
//!
//! * A [`Setting`] is a line of the table [`SETTINGS`]: its name, what it should look like, its default.
//! * Each can be given as a **flag** (`--kebab-case`), in the **environment** (`SENDOFF_…`) and in the **file** that
//!   `--config` names (TOML, `snake_case`). The first of these that gives it counts; then the default.
//! * [`Settings`] is what was given, by name; an empty text counts as not given.
//! * A [`Fault`] is one line for whoever set something wrong.

use std::collections::BTreeMap;
use std::fmt;

/// One line of the table.
#[derive(Debug)]
pub struct Setting {
    /// In snake_case, as in the file.
    pub name: &'static str,
    pub default: Option<&'static str>,
    /// What a good value looks like: the end of the sentence "expected …".
    pub form: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Never quoted.
    pub secret: bool,
}

const fn setting(name: &'static str, default: Option<&'static str>, form: &'static str, help: &'static str) -> Setting {
    Setting { name, default, form, help, secret: false }
}

const fn secret(name: &'static str, default: Option<&'static str>, form: &'static str, help: &'static str) -> Setting {
    Setting { secret: true, ..setting(name, default, form, help) }
}

/// Everything that can be set.
pub const SETTINGS: [Setting; 39] = [
    secret(
        "database_url",
        Some("sqlite:sendoff.db"),
        "sqlite:PATH (a file) or postgres://user:password@host/database",
        "The database",
    ),
    setting(
        "database_connections",
        Some("17"),
        "a number from 8 to 1000, such as 17",
        "The most connections of this process to PostgreSQL",
    ),
    setting(
        "sqlite_busy_timeout",
        Some("5s"),
        "100ms to 30s, such as 5s",
        "How long a write waits while another program keeps the SQLite file locked",
    ),
    setting(
        "listen",
        Some("127.0.0.1:8071"),
        "an IP address and a port, such as 127.0.0.1:8071",
        "Where API and dashboard listen",
    ),
    setting(
        "admin_listen",
        None,
        "an IP address and a port, such as 127.0.0.1:8072",
        "Where /healthz, /readyz and /metrics listen instead of there",
    ),
    setting(
        "portal_listen",
        None,
        "an IP address and a port, such as 127.0.0.1:8073",
        "Where the customers' portal listens instead of there",
    ),
    setting(
        "portal_url",
        None,
        "a scheme, a host and a port at most, such as https://portal.example.com",
        "What customers type to get to the portal; from --portal-listen if not given",
    ),
    setting(
        "public_url",
        None,
        "a scheme, a host and a port at most, such as https://hooks.example.com",
        "What people type to get here; from --listen if not given",
    ),
    secret(
        "jwt_secret",
        None,
        "at least 16 bytes, such as `openssl rand -hex 32` makes",
        "Signs the tokens; made on the first start with SQLite",
    ),
    secret(
        "master_key",
        None,
        "base64 of 32 random bytes, such as `openssl rand -base64 32` makes",
        "Seals the endpoints' secrets; made on the first start with SQLite",
    ),
    secret(
        "master_key_other",
        None,
        "base64 of 32 random bytes, as the master key is",
        "While the master key is changed: a second one, which opens and never seals",
    ),
    setting("role", Some("all"), "all, api or worker", "What this process does: with PostgreSQL it can be split"),
    setting(
        "egress_allow",
        Some(""),
        "networks with commas between, such as 127.0.0.1/32,10.1.0.0/16",
        "Networks that are let through although private or this machine's own",
    ),
    setting("https_only", Some("false"), "true or false", "Refuse endpoints with http://"),
    setting(
        "retry_schedule",
        Some("5s,5m,30m,2h,5h,10h,14h,20h,24h"),
        "at most 20 waits of at most 7d with commas between, such as 5s,5m,2h",
        "The waits between attempts",
    ),
    setting("request_timeout", Some("15s"), "1s to 30s, such as 15s", "How long one attempt may take"),
    setting("max_payload", Some("256KiB"), "1KiB to 16MiB, such as 256KiB", "The largest payload"),
    setting(
        "max_endpoints",
        Some("10000"),
        "a number from 1 to 1000000, such as 10000",
        "The most endpoints of one application",
    ),
    setting(
        "retention",
        Some("90d"),
        "1m to 3650d, such as 90d",
        "How long messages, deliveries and attempts are kept",
    ),
    setting(
        "deleted_retention",
        Some("7d"),
        "1m to 3650d, such as 7d",
        "How long deleted endpoints and applications keep their secrets, headers and metadata",
    ),
    setting("max_in_flight", Some("1024"), "a number from 1 to 65536, such as 1024", "The most POSTs at a time"),
    setting(
        "endpoint_max_in_flight",
        Some("64"),
        "a number from 1 to SENDOFF_MAX_IN_FLIGHT, such as 64",
        "The most POSTs at a time to one endpoint",
    ),
    setting(
        "signature_type",
        Some("hmac256"),
        "hmac256 or ed25519",
        "How new endpoints sign where neither signatureType nor secret says",
    ),
    setting("drain", Some("30s"), "1s to 1h, such as 30s", "How long a shutdown waits for what is in flight"),
    setting(
        "endpoint_disable_after",
        Some("5d"),
        "1s to 365d, such as 5d",
        "An endpoint that did nothing but fail for so long is disabled",
    ),
    setting(
        "jwt_algorithm",
        Some("HS256"),
        "HS256, HS384, HS512, RS256, RS384, RS512 or EdDSA",
        "How the tokens are signed",
    ),
    // Never quoted: somebody may give the private one by mistake.
    secret(
        "jwt_public_key",
        None,
        "a PEM (-----BEGIN PUBLIC KEY-----), such as `openssl pkey -pubout` writes",
        "Verifies tokens that others sign, with RS256, RS384, RS512 or EdDSA",
    ),
    setting(
        "log",
        Some("info"),
        "off, error, warn, info, debug or trace, or a list such as info,sendoff=debug",
        "What is logged, to standard error",
    ),
    setting("log_format", Some("text"), "text or json", "How log lines look"),
    setting(
        "frame_origins",
        Some(""),
        "https origins with commas between, such as https://app.example.com (http on this machine alone)",
        "Origins that may embed the customers' portal in an iframe",
    ),
    setting(
        "rate_limit_key",
        Some("50000"),
        "a number from 0 (no limit) to 1000000, such as 50000",
        "The most requests a second of one API key, and of one organization's tokens",
    ),
    setting(
        "rate_limit_application",
        Some("1000"),
        "a number from 0 (no limit) to 1000000, such as 1000",
        "The most requests a second of one application's tokens",
    ),
    setting(
        "rate_limit_session",
        Some("200"),
        "a number from 0 (no limit) to 1000000, such as 200",
        "The most requests a second of one session of the dashboard or the portal",
    ),
    setting(
        "rate_limit_address",
        Some("1000"),
        "a number from 0 (no limit) to 1000000, such as 1000",
        "The most requests a second of one address without a good token or session",
    ),
    setting(
        "cors_origins",
        Some("*"),
        "* (any), none, or origins with commas between, such as https://app.example.com",
        "Origins whose programs in browsers may call the REST API",
    ),
    setting(
        "trusted_proxies",
        Some(""),
        "networks with commas between, such as 10.0.0.5/32,10.1.0.0/16",
        "Proxies whose X-Forwarded-For is believed",
    ),
    secret(
        "smtp_url",
        None,
        "smtp://user:password@host:587?tls=required or smtps://user:password@host",
        "The mail server that tells applications' contacts of failing endpoints; without it no mail is written",
    ),
    setting("mail_from", None, "an address such as hooks@example.com, or Name <address>", "Who mail comes from"),
    setting("config", None, "the path of a TOML file", "A file with settings, in snake_case"),
];

impl Setting {
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("SENDOFF_{}", self.name.to_ascii_uppercase())
    }

    /// Its flag, without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// One line about one setting: which it is, what is wrong with it, how it should look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// Where a text was given.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Flag,
    Environment,
    File(String),
    Default,
    /// The command itself (the demo's throw-away database).
    Command,
}

#[derive(Clone, Debug)]
struct Given {
    text: String,
    origin: Origin,
}

/// What was given, by name.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    given: BTreeMap<&'static str, Given>,
}

impl Settings {
    /// Puts flags over the environment over the file over the defaults. `flag` gives the value of a flag by a setting's name,
    /// `variable` that of an environment variable.
    ///
    /// # Errors
    /// The file can't be read, is not TOML or has a key that is no setting.
    pub fn gather(
        flag: impl Fn(&str) -> Option<String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, Fault> {
        let mut settings = Settings::default();
        for setting in &SETTINGS {
            settings.put(setting, flag(setting.name), Origin::Flag);
            settings.put(setting, variable(&setting.variable()), Origin::Environment);
        }
        if let Some(path) = settings.text("config").map(str::to_owned) {
            settings.read_file(&path)?;
        }
        for setting in &SETTINGS {
            settings.put(setting, setting.default.map(str::to_owned), Origin::Default);
        }
        Ok(settings)
    }

    /// Enters a value unless there is one already or it is empty.
    fn put(&mut self, setting: &'static Setting, text: Option<String>, origin: Origin) {
        let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        if let Some(text) = text {
            self.given.entry(setting.name).or_insert(Given { text, origin });
        }
    }

    fn read_file(&mut self, path: &str) -> Result<(), Fault> {
        let wrong = |what: String| Fault(format!("the file {path} (--config): {what}"));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count() + 1;
            wrong(format!("line {line} is not TOML: {}", error.message().replace('\n', " ")))
        })?;
        for (key, value) in table {
            let known = SETTINGS.iter().find(|setting| setting.name == key && key != "config");
            let setting = known.ok_or_else(|| wrong(format!("{key:?} is no setting; {}", nearest(&key))))?;
            let text = written(&value).ok_or_else(|| {
                let kind = value.type_str();
                wrong(format!("{key} is a TOML {kind}; expected text, a number, true or false: {}", setting.form))
            })?;
            self.put(setting, Some(text), Origin::File(path.to_owned()));
        }
        Ok(())
    }

    /// What was given for `name`, or its default.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|given| given.text.as_str())
    }

    /// Whether somebody set it.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|given| given.origin != Origin::Default)
    }

    /// Sets `name` on behalf of a command, whatever was given.
    pub fn fix(&mut self, name: &'static str, text: impl Into<String>) {
        self.given.insert(name, Given { text: text.into(), origin: Origin::Command });
    }

    /// Reads `name`, which has a default.
    ///
    /// # Errors
    /// The line about what is wrong with it.
    pub fn read<T>(&self, name: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Fault> {
        read(self.text(name).unwrap_or_default()).map_err(|what| self.fault(name, &what))
    }

    /// Reads `name` if it was given.
    ///
    /// # Errors
    /// The line about what is wrong with it.
    pub fn read_given<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Fault> {
        self.text(name).map(read).transpose().map_err(|what| self.fault(name, &what))
    }

    /// The line about a setting: `what` is the rest of a sentence that begins with its value.
    pub fn fault(&self, name: &'static str, what: &str) -> Fault {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            return Fault(format!("{name}: {what}"));
        };
        let given = self.given.get(name);
        let value = match given {
            Some(given) if !setting.secret => format!(": {:?}", shortened(&given.text)),
            _ => String::new(),
        };
        let origin = given.map(|given| given.origin.describe(setting)).unwrap_or_default();
        Fault(format!("{}{value} {what}; expected {}{origin}", setting.variable(), setting.form))
    }
}

impl Origin {
    fn describe(&self, setting: &Setting) -> String {
        match self {
            Origin::Flag => format!(" (given as --{})", setting.flag()),
            Origin::File(path) => format!(" (given in {path})"),
            Origin::Environment | Origin::Default | Origin::Command => String::new(),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable())
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A TOML value as it would be written in the environment.
fn written(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        toml::Value::Array(list) => {
            let items: Option<Vec<&str>> = list.iter().map(toml::Value::as_str).collect();
            items.map(|items| items.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// What somebody who wrote `key` may have meant.
fn nearest(key: &str) -> String {
    let bare = key.to_ascii_lowercase().replace('-', "_");
    let bare = bare.strip_prefix("sendoff_").unwrap_or(&bare);
    let close = |setting: &&Setting| setting.name == bare || setting.name.contains(bare) || bare.contains(setting.name);
    match SETTINGS.iter().filter(|setting| setting.name != "config").find(close) {
        Some(setting) => format!("did you mean {}?", setting.name),
        None => "`sendoff serve --help` lists them (in the file in snake_case, such as max_payload)".to_owned(),
    }
}

/// Environment variables that look like settings and are none: most likely mistyped. What Kubernetes sets for a service
/// named `sendoff` is left out, and so is what the test suite reads.
pub fn unknown_variables<'v>(names: impl Iterator<Item = &'v str>) -> Vec<&'v str> {
    const OTHERS: [&str; 3] = ["SENDOFF_TEST_", "SENDOFF_SERVICE_", "SENDOFF_PORT"];
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    names
        .filter(|name| name.starts_with("SENDOFF_") && !known.iter().any(|one| one == name))
        .filter(|name| !OTHERS.iter().any(|other| name.starts_with(other)))
        .collect()
}
