//! An **organization**: one environment of a team, with its own name and defaults. Other values come from the process's
//! settings. An organization exists as soon as a token names it; a row is only needed for its name and defaults.

use std::time::Duration;

use crate::domain::access::theme::Theme;
use crate::domain::catalog::application::check_text;
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::{Invalid, OrgId, Time, limits};

/// The shortest and longest payload retention.
const RETENTION: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(90 * 86_400));

/// A stored organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    pub id: OrgId,
    pub spec: OrganizationSpec,
    pub created_at: Time,
    pub updated_at: Time,
}

/// The fields that a person sets. `None`: the process's setting applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrganizationSpec {
    /// The display name; empty: the id is shown.
    pub name: String,
    /// The portal's theme for links without one.
    pub theme: Option<Theme>,
    /// Payloads are deleted after this time, counted like a message's own retention.
    pub payload_retention: Option<Duration>,
    /// For endpoints without a schedule of their own.
    pub retry_schedule: Option<RetrySchedule>,
    /// Maximum number of endpoints of an application.
    pub max_endpoints: Option<u32>,
    /// Event types that need no feature flag are public.
    pub public_catalog: bool,
}

impl OrganizationSpec {
    /// # Errors
    /// Every broken rule.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        if self.name.chars().count() > limits::NAME {
            wrong.push(Invalid::new("name", format!("may have at most {} characters", limits::NAME)));
        }
        check_text("name", &self.name, &mut wrong);
        if self.payload_retention.is_some_and(|span| span < RETENTION.0 || span > RETENTION.1) {
            wrong.push(Invalid::new("payloadRetention", "must be 1h to 90d"));
        }
        if self.max_endpoints == Some(0) {
            wrong.push(Invalid::new("maxEndpoints", "must be at least 1"));
        }
        wrong.extend(self.theme.as_ref().and_then(|theme| theme.check().err()).into_iter().flatten());
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broken_rule_is_named() {
        assert!(OrganizationSpec::default().check().is_ok());
        let wrong = OrganizationSpec {
            name: "x".repeat(300),
            payload_retention: Some(Duration::from_secs(60)),
            max_endpoints: Some(0),
            theme: Some(Theme { radius: Some(99), ..Theme::default() }),
            ..OrganizationSpec::default()
        };
        let fields: Vec<String> = wrong.check().unwrap_err().into_iter().map(|one| one.field).collect();
        assert_eq!(fields, ["name", "payloadRetention", "maxEndpoints", "radius"]);
    }
}
