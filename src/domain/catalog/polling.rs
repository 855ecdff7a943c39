//! A **polling endpoint** lets a receiver fetch an application's messages instead of receiving POSTs. It has filters,
//! but no URL, secret or retry settings.
//!
//! * [`Consumer`]: a named reader whose position the server keeps.
//! * [`PollingToken`]: grants access to one polling endpoint.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::domain::access::api_key::{credential, random_text};
use crate::domain::catalog::application::{Metadata, check_metadata};
use crate::domain::catalog::endpoint::check_filter;
use crate::domain::feed::{FeedFilter, FeedIterator};
use crate::domain::{AppId, Invalid, OrgId, PollingEndpointId, PollingTokenId, Time, Uid, ids, limits};

/// The prefix of a token.
pub const TOKEN_PREFIX: &str = "sk_poll_";
/// Number of trailing token characters kept to tell tokens apart.
const HINT: usize = 4;
/// The longest lifetime of a token.
pub const MAX_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// The longest time a rotated token stays valid.
pub const MAX_OVERLAP: Duration = Duration::from_secs(86_400);
/// The default time a rotated token stays valid.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(300);

/// A stored polling endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollingEndpoint {
    pub id: PollingEndpointId,
    pub app_id: AppId,
    pub spec: PollingEndpointSpec,
    pub created_at: Time,
    pub updated_at: Time,
}

/// The fields of a polling endpoint that a caller sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollingEndpointSpec {
    pub uid: Option<Uid>,
    /// A disabled polling endpoint returns no messages.
    pub disabled: bool,
    /// Selects the messages that readers get.
    pub filter: FeedFilter,
    pub metadata: Metadata,
}

impl PollingEndpointSpec {
    /// Checks the rules that the types do not enforce. The store checks that the event types exist.
    ///
    /// # Errors
    /// Every broken rule, not only the first.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let FeedFilter { event_types, channels } = &self.filter;
        let mut wrong = Vec::new();
        check_filter("eventTypes", event_types.as_deref(), limits::EVENT_TYPES, ids::event_type, &mut wrong);
        check_filter("channels", channels.as_deref(), limits::ENDPOINT_CHANNELS, ids::channel, &mut wrong);
        check_metadata(&self.metadata, &mut wrong);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

impl PollingEndpoint {
    /// The default position of a reader: the first message after the endpoint's creation.
    pub fn beginning(&self) -> FeedIterator {
        FeedIterator::since(self.created_at)
    }
}

/// A named reader whose position the server keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub name: String,
    /// The consumer has processed everything up to here: the position of its last request.
    pub iterator: FeedIterator,
    /// For a leased consumer, the end of its current lease. `None`: the consumer polls by iterator.
    pub leased_until: Option<Time>,
    /// The time of its last request, accurate to about a minute.
    pub polled_at: Time,
    /// It has not polled since its silence was reported.
    pub silent: bool,
}

/// Checks the name of a consumer, by the rules of uids.
///
/// # Errors
/// The broken rule.
pub fn check_consumer(name: &str) -> Result<(), Invalid> {
    ids::name("consumer_id", name, limits::NAME)
}

/// A stored token. The store keeps only the SHA-256 of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollingToken {
    pub id: PollingTokenId,
    pub org: OrgId,
    pub app_id: AppId,
    pub polling_endpoint_id: PollingEndpointId,
    /// The last characters of the text.
    pub hint: String,
    pub created_at: Time,
    /// `None`: never.
    pub expires_at: Option<Time>,
}

/// The text of a token with this secret part.
pub fn token_text(secret: &str) -> Zeroizing<String> {
    credential(TOKEN_PREFIX, secret)
}

impl PollingToken {
    /// A new token of `endpoint` and its text, which cannot be recovered later.
    pub fn make(
        org: OrgId,
        endpoint: &PollingEndpoint,
        life: Option<Duration>,
        now: Time,
    ) -> (PollingToken, Zeroizing<String>) {
        PollingToken::with_text(org, endpoint, life, token_text(&random_text()), now)
    }

    /// A new token with a given text, see [`token_text`].
    pub fn with_text(
        org: OrgId,
        endpoint: &PollingEndpoint,
        life: Option<Duration>,
        text: Zeroizing<String>,
        now: Time,
    ) -> (PollingToken, Zeroizing<String>) {
        let token = PollingToken {
            id: PollingTokenId::new(now),
            org,
            app_id: endpoint.app_id,
            polling_endpoint_id: endpoint.id,
            hint: text[text.len() - HINT..].to_owned(),
            created_at: now,
            expires_at: life.map(|life| now.plus(life)),
        };
        (token, text)
    }

    /// The text with all but its last characters masked.
    pub fn censored(&self) -> String {
        format!("{TOKEN_PREFIX}…{}", self.hint)
    }

    /// Whether the token is valid at `now`.
    pub fn is_valid_at(&self, now: Time) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// Whether `shown` has the prefix of a polling token.
pub fn is_polling_token(shown: &str) -> bool {
    shown.starts_with(TOKEN_PREFIX)
}

#[cfg(test)]
mod tests {
    use crate::domain::catalog::polling::*;

    const NOW: Time = Time::from_micros(1_763_800_000_000_000);

    fn endpoint() -> PollingEndpoint {
        PollingEndpoint {
            id: PollingEndpointId::new(NOW),
            app_id: AppId::new(NOW),
            spec: PollingEndpointSpec::default(),
            created_at: NOW,
            updated_at: NOW,
        }
    }

    #[test]
    fn a_token_is_made_once_and_shown_no_more() {
        let life = Duration::from_secs(60);
        let (token, text) = PollingToken::make(OrgId::default_org(), &endpoint(), Some(life), NOW);
        assert!(is_polling_token(&text) && text.len() == TOKEN_PREFIX.len() + 43);
        assert!(text.ends_with(&token.hint) && !token.censored().contains(&text[8..16]));
        assert!(token.is_valid_at(NOW) && !token.is_valid_at(NOW.plus(life)));
    }

    #[test]
    fn every_rule_that_is_broken_is_named() {
        assert_eq!(PollingEndpointSpec::default().check(), Ok(()));
        let filter = FeedFilter { event_types: Some(vec!["a b".into()]), channels: Some(vec![]) };
        let metadata = (0..=limits::METADATA).map(|n| (n.to_string(), String::new())).collect();
        let wrong = PollingEndpointSpec { filter, metadata, ..PollingEndpointSpec::default() }.check().unwrap_err();
        let fields: Vec<&str> = wrong.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["eventTypes", "channels", "metadata"]);
    }
}
