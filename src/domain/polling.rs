//! A **polling endpoint**: where an application's receiver fetches messages in place of getting them posted. It has filters as an endpoint
//! has, and nothing that posting needs.
//!
//! * [`Consumer`] – a reader whose position the server keeps, by a name that it chose.
//! * [`PollingToken`] – opens one polling endpoint, and nothing else.

use std::time::Duration;

use zeroize::Zeroizing;

use super::application::{Metadata, check_metadata};
use super::endpoint::check_filter;
use super::feed::{FeedFilter, FeedIterator};
use super::key::random_text;
use super::{AppId, Invalid, OrgId, PollingEndpointId, PollingTokenId, Time, Uid, ids, limits};

/// The prefix of a token's text.
pub const TOKEN_PREFIX: &str = "sk_poll_";
/// How many characters of a token are kept to tell several apart.
const HINT: usize = 4;
/// How long a token is good at most.
pub const LONGEST_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// How long the one before stays good at most, and if nothing is said.
pub const LONGEST_OVERLAP: Duration = Duration::from_secs(86_400);
pub const OVERLAP: Duration = Duration::from_secs(300);

/// A polling endpoint as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollingEndpoint {
    pub id: PollingEndpointId,
    pub app_id: AppId,
    pub spec: PollingEndpointSpec,
    pub created_at: Time,
    pub updated_at: Time,
}

/// A polling endpoint as its owner wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollingEndpointSpec {
    pub uid: Option<Uid>,
    /// Nothing is given out while it is.
    pub disabled: bool,
    /// Which messages are given out.
    pub filter: FeedFilter,
    pub metadata: Metadata,
}

impl PollingEndpointSpec {
    /// Checks what the types do not say. Whether the event types exist is the store's to say.
    ///
    /// # Errors
    /// Every rule that is broken, not only the first.
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
    /// Where readers begin that name no position: at what was accepted since it was made.
    pub fn beginning(&self) -> FeedIterator {
        FeedIterator::since(self.created_at)
    }
}

/// A reader whose position the server keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub name: String,
    /// What it has done with all messages up to there; the position that it asked from last.
    pub iterator: FeedIterator,
    /// A leased consumer: when the lease of what it was given last ends. `None`: it asks by iterators.
    pub leased_until: Option<Time>,
    /// When it asked last, to about a minute.
    pub polled_at: Time,
}

/// Checks the name of a consumer.
///
/// # Errors
/// The rule that it breaks: those of uids.
pub fn check_consumer(name: &str) -> Result<(), Invalid> {
    ids::name("consumer_id", name, limits::NAME)
}

/// A token as it is stored: everything but its text, of which the store knows the SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollingToken {
    pub id: PollingTokenId,
    pub org: OrgId,
    pub app_id: AppId,
    pub polling_endpoint_id: PollingEndpointId,
    /// The last characters of its text.
    pub hint: String,
    pub created_at: Time,
    /// `None`: never.
    pub expires_at: Option<Time>,
}

impl PollingToken {
    /// A new token of `endpoint`, and its text: this is the only place where that is seen.
    pub fn make(
        org: OrgId,
        endpoint: &PollingEndpoint,
        life: Option<Duration>,
        now: Time,
    ) -> (PollingToken, Zeroizing<String>) {
        let random = random_text();
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_PREFIX.len() + random.len()));
        text.push_str(TOKEN_PREFIX);
        text.push_str(&random);
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

    /// The part of its text that may be shown later.
    pub fn censored(&self) -> String {
        format!("{TOKEN_PREFIX}…{}", self.hint)
    }

    /// Whether it is good at the time `now`.
    pub fn is_good_at(&self, now: Time) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// Whether `shown` looks like such a token.
pub fn is_polling_token(shown: &str) -> bool {
    shown.starts_with(TOKEN_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(token.is_good_at(NOW) && !token.is_good_at(NOW.plus(life)));
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
