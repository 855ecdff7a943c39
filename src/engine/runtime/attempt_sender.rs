//! Sending: one delivery becomes one signed POST, and its outcome becomes a [`FinishedAttempt`] to record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use url::Url;

use crate::crash::{self, CrashPhase, CrashPoint};
use crate::domain::catalog::endpoint::DisabledReason;
use crate::domain::deliveries::attempt::{Attempt, Failure, LocalFailure, Outcome};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::deliveries::delivery;
use crate::domain::deliveries::delivery::Progress;
use crate::domain::deliveries::message::Message;
use crate::domain::notifications::chat::ChatMessage;
use crate::domain::signing::signature::ExtraSignature;
use crate::domain::time::Clock;
use crate::domain::{AttemptId, Time};
use crate::egress::{self, Egress, Post};
use crate::engine::core::event::UnsentAttempt;
use crate::engine::core::lanes::Dispatch;
use crate::store::catalog::organization_rows::OrganizationDefaults;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::recording::record::FinishedAttempt;

/// Replaces the values of custom headers in records, because they may be secrets.
const MASK: &str = "***";

/// An episode of a local failure ends after this long without one: twice the longest wait between retries.
const EPISODE: Duration = Duration::from_secs(60);

/// The settings and connections for sending.
#[derive(Clone, Debug)]
pub struct AttemptSender {
    pub egress: Egress,
    /// For endpoints without their own schedule or timeout.
    pub schedule: RetrySchedule,
    /// The organizations' own schedules.
    pub organizations: OrganizationDefaults,
    pub timeout: Duration,
    /// The dashboard, for links in chat messages.
    pub dashboard_url: Url,
    pub episodes: FailureEpisodes,
}

impl AttemptSender {
    /// Makes the attempt. Takes at most the endpoint's timeout, plus 2 s to find out whether the name servers
    /// respond. A failure at the receiver is an outcome, not an error.
    ///
    /// # Errors
    /// The attempt could not be made for a local reason. Counted, and logged once per episode.
    pub async fn attempt(&self, dispatch: Dispatch, clock: Clock) -> Result<FinishedAttempt, UnsentAttempt> {
        let at = clock.now();
        // Wall-clock time: the receiver compares the timestamp with its own clock.
        match self.post(&dispatch, clock.wall()).await {
            Ok((headers, outcome)) => {
                let own = self.organizations.of(&dispatch.live.org);
                let schedule = own.as_ref().and_then(|own| own.retry_schedule.as_ref()).unwrap_or(&self.schedule);
                Ok(finished(dispatch, headers, outcome, (at, clock.now()), schedule, rand::random()))
            }
            Err(egress::NotSent(why)) => Err(self.local_failure(&dispatch, why)),
        }
    }

    /// Counts and logs an attempt that could not be made.
    pub fn local_failure(&self, dispatch: &Dispatch, why: LocalFailure) -> UnsentAttempt {
        metrics::counter!("sendoff_attempts_not_made_total", "reason" => why.word()).increment(1);
        if self.episodes.begins(why, Instant::now()) {
            tracing::error!(reason = why.word(), "attempts cannot be made and will be retried: {}", why.sentence());
        }
        UnsentAttempt {
            endpoint: dispatch.live.endpoint.id,
            message: dispatch.delivery.message.id,
            why,
            jitter: rand::random(),
        }
    }

    /// Signs and sends at the time `wall`. Returns the headers to record and the outcome.
    async fn post(&self, dispatch: &Dispatch, wall: Time) -> Result<(Vec<(String, String)>, Outcome), egress::NotSent> {
        let (live, message) = (&dispatch.live, &dispatch.delivery.message);
        let cannot = |why: &str| Ok((Vec::new(), Outcome::failed(Failure::Request, why, Duration::ZERO)));
        // Rare: deleting a payload also ends its deliveries.
        let Some(payload) = &message.payload else { return cannot("the message's payload was deleted") };
        let Some(url) = &live.url else {
            return cannot("the endpoint's URL is invalid: correct it, then resend");
        };
        let signing = match &live.signing {
            Ok(signing) => signing,
            Err(why) => return cannot(why),
        };
        let mut headers = own_headers(live);
        let own = headers.clone();
        headers.insert(CONTENT_TYPE, content_type(message));
        let body = match &live.endpoint.spec.chat {
            // Chat systems verify no signature.
            Some(hook) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                ChatMessage::new(&message.event_type, payload, &self.dashboard_url).body(hook.format).into()
            }
            None => {
                signing.sign(&mut headers, message.id, wall, payload);
                payload.clone()
            }
        };
        let recorded = recorded_headers(&headers, &own);
        let timeout = live.endpoint.spec.timeout.unwrap_or(self.timeout);
        let typed = typed_names(live);
        let post = Post { url, headers, exact_case: &typed, body, timeout, now: wall };
        crash::point(CrashPoint::Post, CrashPhase::Before);
        let outcome = self.egress.post(post).await;
        crash::point(CrashPoint::Post, CrashPhase::After);
        Ok((recorded, outcome?))
    }
}

/// The time of each local failure's last occurrence, so each episode is logged once. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct FailureEpisodes {
    last: Arc<Mutex<HashMap<LocalFailure, Instant>>>,
}

impl FailureEpisodes {
    /// Notes a failure `now`. Returns `true` if it begins an episode.
    fn begins(&self, why: LocalFailure, now: Instant) -> bool {
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(why, now);
        before.is_none_or(|before| now.saturating_duration_since(before) > EPISODE)
    }
}

/// The result of an attempt that began at `at` and whose outcome became known `now`. `schedule` is for endpoints
/// without their own.
pub(crate) fn finished(
    dispatch: Dispatch,
    request_headers: Vec<(String, String)>,
    outcome: Outcome,
    (at, now): (Time, Time),
    schedule: &RetrySchedule,
    jitter: f64,
) -> FinishedAttempt {
    let Dispatch { live, delivery, slot, epoch } = dispatch;
    let Progress { step, attempts, trigger, .. } = delivery.progress;
    let spec = &live.endpoint.spec;
    let schedule = spec.retry_schedule.as_ref().unwrap_or(schedule);
    let next = delivery::after(&outcome, step, schedule, now, jitter);
    let disable = (outcome.status == Some(410)).then_some(DisabledReason::Gone);
    let attempt = Attempt {
        id: AttemptId::new(at),
        app_id: delivery.message.app_id,
        message_id: delivery.message.id,
        endpoint_id: live.endpoint.id,
        number: attempts + 1,
        trigger,
        at,
        url: spec.url.clone(),
        request_headers,
        outcome,
        next_at: next.due(),
    };
    FinishedAttempt {
        org: live.org.clone(),
        attempt,
        before: delivery.progress,
        next,
        slot,
        epoch,
        disable,
        rests_until: None,
    }
}

/// The content type of the payload. A raw one was validated on acceptance.
fn content_type(message: &Message) -> HeaderValue {
    let raw = message.raw_type.as_deref().and_then(|raw_type| HeaderValue::from_str(raw_type).ok());
    raw.unwrap_or_else(|| HeaderValue::from_static("application/json"))
}

/// The custom headers of the endpoint.
fn own_headers(live: &LiveEndpoint) -> HeaderMap {
    let own = &live.endpoint.spec.headers;
    let mut headers = HeaderMap::with_capacity(own.len() + 8);
    for (name, value) in own {
        // Validated when they were saved.
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

/// The names of custom headers, in the case that the endpoint's owner entered.
fn typed_names(live: &LiveEndpoint) -> Vec<&str> {
    let spec = &live.endpoint.spec;
    spec.headers
        .keys()
        .map(String::as_str)
        .chain(spec.extra_signatures.iter().filter_map(ExtraSignature::header))
        .collect()
}

fn recorded_headers(headers: &HeaderMap, own: &HeaderMap) -> Vec<(String, String)> {
    let shown = |(name, value): (&HeaderName, &HeaderValue)| {
        let masked = own.contains_key(name);
        let value = if masked { MASK } else { value.to_str().unwrap_or_default() };
        (name.as_str().to_owned(), value.to_owned())
    };
    headers.iter().map(shown).collect()
}
