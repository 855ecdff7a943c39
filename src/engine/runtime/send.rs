//! Send: one delivery becomes one signed POST, and what came of it becomes a [`Finished`] that is ready to be recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::crash::{self, Place, When};
use crate::domain::catalog::endpoint::DisabledReason;
use crate::domain::deliveries::attempt::{Attempt, Failure, Outcome, OwnFailure};
use crate::domain::deliveries::backoff::Schedule;
use crate::domain::deliveries::delivery;
use crate::domain::deliveries::delivery::Progress;
use crate::domain::deliveries::message::Message;
use crate::domain::signing::signature::ExtraSignature;
use crate::domain::time::Clock;
use crate::domain::{AttemptId, Time};
use crate::egress::{self, Egress, Post};
use crate::engine::core::event::NotMade;
use crate::engine::core::lanes::Start;
use crate::store::ingest::routing::LiveEndpoint;
use crate::store::recording::record::Finished;

/// What stands in the record in place of the values of an endpoint's own headers, which may be secrets.
const MASK: &str = "***";

/// An episode of failures of ours is over when none happened for this long: twice the longest wait between two tries.
const EPISODE: Duration = Duration::from_secs(60);

/// What sending needs to know of the process's settings.
#[derive(Clone, Debug)]
pub struct Sending {
    pub egress: Egress,
    /// For endpoints that have no schedule or timeout of their own.
    pub schedule: Schedule,
    pub timeout: Duration,
    pub episodes: Episodes,
}

impl Sending {
    /// Makes the attempt. Takes as long as the endpoint's timeout at most (and 2 s to find out whether the name servers answer). What goes
    /// wrong at the receiver's is part of what is recorded.
    ///
    /// # Errors
    /// It could not be made, for a reason of ours: counted, and logged once per episode.
    pub async fn attempt(&self, start: Start, clock: Clock) -> Result<Finished, NotMade> {
        let at = clock.now();
        // The receiver compares it with its own clock, not with ours.
        match self.post(&start, clock.wall()).await {
            Ok((headers, outcome)) => {
                Ok(finished(start, headers, outcome, (at, clock.now()), &self.schedule, rand::random()))
            }
            Err(egress::NotSent(why)) => Err(self.not_made(&start, why)),
        }
    }

    /// An attempt of what was to be sent could not be made.
    pub fn not_made(&self, start: &Start, why: OwnFailure) -> NotMade {
        metrics::counter!("sendoff_attempts_not_made_total", "reason" => why.word()).increment(1);
        if self.episodes.begins(why, Instant::now()) {
            tracing::error!(reason = why.word(), "attempts cannot be made, and are tried again: {}", why.sentence());
        }
        NotMade { endpoint: start.live.endpoint.id, message: start.work.message.id, why, jitter: rand::random() }
    }

    /// Signs and sends at the time `wall`; gives back the headers as they are recorded, and what came of it.
    async fn post(&self, start: &Start, wall: Time) -> Result<(Vec<(String, String)>, Outcome), egress::NotSent> {
        let (live, message) = (&start.live, &start.work.message);
        let cannot = |why: &str| Ok((Vec::new(), Outcome::failed(Failure::Request, why, Duration::ZERO)));
        // Not even queued: whoever deletes it ends the delivery with it.
        let Some(payload) = &message.payload else { return cannot("the message's content is gone") };
        let Some(url) = &live.url else {
            return cannot("the endpoint's URL cannot be understood: correct it, then resend");
        };
        let signing = match &live.signing {
            Ok(signing) => signing,
            Err(why) => return cannot(why),
        };
        let mut headers = own_headers(live);
        let own = headers.clone();
        headers.insert(CONTENT_TYPE, content_type(message));
        signing.sign(&mut headers, message.id, wall, payload);
        let recorded = recorded_headers(&headers, &own);
        let timeout = live.endpoint.spec.timeout.unwrap_or(self.timeout);
        let typed = typed_names(live);
        let post = Post { url, headers, exact_case: &typed, body: payload.clone(), timeout, now: wall };
        crash::point(Place::Post, When::Before);
        let outcome = self.egress.post(post).await;
        crash::point(Place::Post, When::After);
        Ok((recorded, outcome?))
    }
}

/// Which failures of ours have been going on, so that each episode is said once. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Episodes {
    last: Arc<Mutex<HashMap<OwnFailure, Instant>>>,
}

impl Episodes {
    /// It happens `now`. `true`: it had not for a while.
    fn begins(&self, why: OwnFailure, now: Instant) -> bool {
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(why, now);
        before.is_none_or(|before| now.saturating_duration_since(before) > EPISODE)
    }
}

/// What an attempt that began at `at` makes of its delivery, `now` that its outcome is known. `schedule` is
/// for endpoints that have none of their own.
pub(crate) fn finished(
    start: Start,
    request_headers: Vec<(String, String)>,
    outcome: Outcome,
    (at, now): (Time, Time),
    schedule: &Schedule,
    jitter: f64,
) -> Finished {
    let Start { live, work, slot, epoch } = start;
    let Progress { step, attempts, trigger, .. } = work.progress;
    let spec = &live.endpoint.spec;
    let schedule = spec.retry_schedule.as_ref().unwrap_or(schedule);
    let next = delivery::after(&outcome, step, schedule, now, jitter);
    let disable = (outcome.status == Some(410)).then_some(DisabledReason::Gone);
    let attempt = Attempt {
        id: AttemptId::new(at),
        app_id: work.message.app_id,
        message_id: work.message.id,
        endpoint_id: live.endpoint.id,
        number: attempts + 1,
        trigger,
        at,
        url: spec.url.clone(),
        request_headers,
        outcome,
        next_at: next.due(),
    };
    Finished { org: live.org.clone(), attempt, before: work.progress, next, slot, epoch, disable, rests_until: None }
}

/// What the payload is; a raw one's type was checked when it came.
fn content_type(message: &Message) -> HeaderValue {
    let raw = message.raw_type.as_deref().and_then(|raw_type| HeaderValue::from_str(raw_type).ok());
    raw.unwrap_or_else(|| HeaderValue::from_static("application/json"))
}

/// The headers that the endpoint's owner asked for.
fn own_headers(live: &LiveEndpoint) -> HeaderMap {
    let own = &live.endpoint.spec.headers;
    let mut headers = HeaderMap::with_capacity(own.len() + 8);
    for (name, value) in own {
        // They were checked when they were saved.
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

/// The names of headers that the endpoint's owner chose, as they were typed.
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
