//! Send: one delivery becomes one signed POST, and what came of it becomes a [`Finished`] that is ready to be recorded.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::crash::{self, Place, When};
use crate::domain::attempt::{Attempt, Failure, Outcome};
use crate::domain::backoff::Schedule;
use crate::domain::delivery::{self, Progress};
use crate::domain::endpoint::DisabledReason;
use crate::domain::message::Message;
use crate::domain::time::Clock;
use crate::domain::{AttemptId, Time};
use crate::egress::{Egress, Post};
use crate::engine::core::lanes::Start;
use crate::store::directory::LiveEndpoint;
use crate::store::record::Finished;

/// What stands in the record in place of the values of an endpoint's own headers, which may be secrets.
const MASK: &str = "***";

/// What sending needs to know of the process's settings.
#[derive(Clone, Debug)]
pub struct Sending {
    pub egress: Egress,
    /// For endpoints that have no schedule or timeout of their own.
    pub schedule: Schedule,
    pub timeout: Duration,
}

impl Sending {
    /// Makes the attempt. Takes as long as the endpoint's timeout at most; never fails: what goes wrong is part of what is recorded.
    pub async fn attempt(&self, start: Start, clock: Clock) -> Finished {
        let at = clock.now();
        // The receiver compares it with its own clock, not with ours.
        let (headers, outcome) = self.post(&start, clock.wall()).await;
        finished(start, headers, outcome, (at, clock.now()), &self.schedule, rand::random())
    }

    /// Signs and sends at the time `wall`; gives back the headers as they are recorded, and what came of it.
    async fn post(&self, start: &Start, wall: Time) -> (Vec<(String, String)>, Outcome) {
        let (live, message) = (&start.live, &start.work.message);
        let cannot = |why: &str| (Vec::new(), Outcome::failed(Failure::Request, why, Duration::ZERO));
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
        let post = Post { url, headers, body: payload.clone(), timeout, now: wall };
        crash::point(Place::Post, When::Before);
        let outcome = self.egress.post(post).await;
        crash::point(Place::Post, When::After);
        (recorded, outcome)
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
    Finished { org: live.org.clone(), attempt, before: work.progress, next, slot, epoch, disable }
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

fn recorded_headers(headers: &HeaderMap, own: &HeaderMap) -> Vec<(String, String)> {
    let shown = |(name, value): (&HeaderName, &HeaderValue)| {
        let masked = own.contains_key(name);
        let value = if masked { MASK } else { value.to_str().unwrap_or_default() };
        (name.as_str().to_owned(), value.to_owned())
    };
    headers.iter().map(shown).collect()
}
