//! Mail settings: the mail server and the sender.

use lettre::message::Mailbox;
use url::Url;
use zeroize::Zeroizing;

use super::http_config::is_loopback;
use super::{ConfigError, Settings, parsers};

/// How alerts about failing endpoints reach applications' contacts.
#[derive(Clone)]
pub struct MailConfig {
    /// Contains the password.
    pub url: Zeroizing<String>,
    pub from: Mailbox,
}

impl std::fmt::Debug for MailConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MailConfig(from {}, redacted)", self.from.email)
    }
}

impl MailConfig {
    pub(super) fn new(settings: &Settings) -> Result<Option<MailConfig>, ConfigError> {
        let url = settings.parse_optional("smtp_url", parsers::smtp_url)?;
        let from = settings.parse_optional("mail_from", parsers::mailbox)?;
        match (url, from) {
            (Some(url), Some(from)) => Ok(Some(MailConfig { url, from })),
            (Some(_), None) => Err(settings.error("mail_from", "is missing: SENDOFF_SMTP_URL needs a sender")),
            (None, _) => Ok(None),
        }
    }

    /// Warns if the password may travel unencrypted.
    pub(super) fn plaintext_password_warning(&self) -> Option<String> {
        let url: Url = self.url.parse().ok()?;
        let required = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
        let plaintext = url.scheme() == "smtp" && !required && url.password().is_some();
        let remote = !is_loopback(&url);
        (plaintext && remote).then(|| "SENDOFF_SMTP_URL may send its password unencrypted: add tls=required".to_owned())
    }
}
