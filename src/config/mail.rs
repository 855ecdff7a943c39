//! Mail: where it goes out, and who it comes from.

use lettre::message::Mailbox;
use url::Url;
use zeroize::Zeroizing;

use super::http::near;
use super::{Fault, Settings, values};

/// How applications' contacts are told of failing endpoints.
#[derive(Clone)]
pub struct MailConfig {
    /// Holds the password.
    pub url: Zeroizing<String>,
    pub from: Mailbox,
}

impl std::fmt::Debug for MailConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MailConfig(from {}, redacted)", self.from.email)
    }
}

impl MailConfig {
    pub(super) fn new(settings: &Settings) -> Result<Option<MailConfig>, Fault> {
        let url = settings.read_given("smtp_url", values::smtp_url)?;
        let from = settings.read_given("mail_from", values::mailbox)?;
        match (url, from) {
            (Some(url), Some(from)) => Ok(Some(MailConfig { url, from })),
            (Some(_), None) => {
                Err(settings.fault("mail_from", "is missing: with SENDOFF_SMTP_URL it is who mail comes from"))
            }
            (None, _) => Ok(None),
        }
    }

    /// What is unwise about how the mail server is reached.
    pub(super) fn in_the_clear(&self) -> Option<String> {
        let url: Url = self.url.parse().ok()?;
        let required = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
        let clear = url.scheme() == "smtp" && !required && url.password().is_some();
        let far = !near(&url);
        (clear && far).then(|| {
            "SENDOFF_SMTP_URL sends its password over smtp without tls=required: it can be read on the way".to_owned()
        })
    }
}
