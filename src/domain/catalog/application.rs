//! An **application** is a tenant: one customer of the SaaS team. It owns endpoints and messages.

use std::collections::BTreeMap;

use crate::domain::{AppId, Invalid, OrgId, Time, Uid, limits};

/// Key-value pairs set by the team; at most 50 entries and 4 KiB in total.
pub type Metadata = BTreeMap<String, String>;

/// A stored application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    pub id: AppId,
    pub org: OrgId,
    /// The team's own name for it, unique in the organization.
    pub uid: Option<Uid>,
    pub name: String,
    /// Messages per second to all its endpoints together; `None`: no limit.
    pub throttle_rate: Option<u16>,
    pub metadata: Metadata,
    /// Address for mails about failing and disabled endpoints.
    pub contact_email: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Application {
    /// The fields that a caller sets.
    pub fn spec(&self) -> ApplicationSpec {
        ApplicationSpec {
            uid: self.uid.clone(),
            name: self.name.clone(),
            throttle_rate: self.throttle_rate,
            metadata: self.metadata.clone(),
            contact_email: self.contact_email.clone(),
        }
    }
}

/// The fields of an application that a caller sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationSpec {
    pub uid: Option<Uid>,
    pub name: String,
    pub throttle_rate: Option<u16>,
    pub metadata: Metadata,
    pub contact_email: Option<String>,
}

impl ApplicationSpec {
    /// Checks the rules that the types do not enforce.
    ///
    /// # Errors
    /// Every broken rule, not only the first.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        if self.name.is_empty() || self.name.chars().count() > limits::APPLICATION_NAME {
            wrong.push(Invalid::new("name", format!("must have 1 to {} characters", limits::APPLICATION_NAME)));
        }
        check_text("name", &self.name, &mut wrong);
        check_rate("throttleRate", self.throttle_rate, &mut wrong);
        check_metadata(&self.metadata, &mut wrong);
        if let Some(email) = &self.contact_email {
            let fits = email.len() <= limits::EMAIL
                && email.split_once('@').is_some_and(|(who, host)| !who.is_empty() && host.contains('.'))
                && !email.chars().any(|c| c.is_whitespace() || c.is_control());
            if !fits {
                wrong.push(Invalid::new("contactEmail", "is not an e-mail address such as ops@example.com"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Rejects NUL, which PostgreSQL cannot store as text, on both stores.
pub(in crate::domain) fn check_text(field: &str, text: &str, wrong: &mut Vec<Invalid>) {
    if text.contains('\0') {
        wrong.push(Invalid::new(field, "must not contain the character U+0000"));
    }
}

/// Checks the length against [`limits::DESCRIPTION`] characters.
pub(in crate::domain) fn check_description(text: &str, wrong: &mut Vec<Invalid>) {
    let most = limits::DESCRIPTION;
    if text.chars().nth(most).is_some() {
        wrong.push(Invalid::new("description", format!("may have at most {most} characters")));
    }
    check_text("description", text, wrong);
}

/// Rejects a throttle rate of 0 messages per second.
pub(crate) fn check_rate(field: &str, rate: Option<u16>, wrong: &mut Vec<Invalid>) {
    if rate == Some(0) {
        wrong.push(Invalid::new(field, "must be at least 1 message a second, or null for no limit"));
    }
}

/// Checks the size against [`limits::METADATA`] entries and [`limits::METADATA_BYTES`] bytes of keys and values.
pub(in crate::domain) fn check_metadata(metadata: &Metadata, wrong: &mut Vec<Invalid>) {
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    let (most, most_bytes) = (limits::METADATA, limits::METADATA_BYTES);
    if metadata.len() > most || bytes > most_bytes {
        let reason =
            format!("may have at most {most} entries and {most_bytes} bytes, got {} and {bytes}", metadata.len());
        wrong.push(Invalid::new("metadata", reason));
        return;
    }
    for (key, value) in metadata {
        check_text("metadata", key, wrong);
        check_text("metadata", value, wrong);
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::catalog::application::*;

    #[test]
    fn every_broken_rule_is_named() {
        let spec = ApplicationSpec {
            throttle_rate: Some(0),
            metadata: (0..51).map(|i| (i.to_string(), String::new())).collect(),
            contact_email: Some("nobody".into()),
            ..ApplicationSpec::default()
        };
        let fields: Vec<_> = spec.check().unwrap_err().into_iter().map(|w| w.field).collect();
        assert_eq!(fields, ["name", "throttleRate", "metadata", "contactEmail"]);
        assert!(ApplicationSpec { name: "Acme".into(), ..ApplicationSpec::default() }.check().is_ok());
    }
}
