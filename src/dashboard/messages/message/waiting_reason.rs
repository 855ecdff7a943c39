//! The reason a pending delivery waits.

use crate::dashboard::components::format::{Line, roughly};
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::error::PageError;
use crate::dashboard::messages::message::DeliveryCard;
use crate::domain::Time;
use crate::domain::deliveries::delivery::DeliveryState;
use crate::domain::deliveries::message::Message;
use crate::store::Store;
use crate::store::catalog::endpoint_list::BreakerPause;
use crate::store::query::deliveries::DeliveryView;

impl DeliveryCard {
    /// Sets the reason a pending delivery waits.
    pub(super) async fn say_why(
        &mut self,
        store: &Store,
        context: &AppContext,
        message: &Message,
        view: &DeliveryView,
        now: Time,
    ) -> Result<(), PageError> {
        let scheduled =
            message.deliver_at.is_some_and(|at| at > now) && view.state == DeliveryState::Fresh && view.attempts == 0;
        let why = if view.endpoint_disabled {
            Some("The endpoint is disabled. Delivery resumes when it is enabled.".to_owned())
        } else if scheduled {
            Some("Scheduled for later.".to_owned())
        } else if view.due_at > now {
            None
        } else {
            Some(overdue(store, context, message, view, now).await?)
        };
        self.why = why.map(|why| Line::new(&why));
        Ok(())
    }
}

/// The reason a due delivery was not sent yet.
async fn overdue(
    store: &Store,
    context: &AppContext,
    message: &Message,
    view: &DeliveryView,
    now: Time,
) -> Result<String, PageError> {
    let (tenant, app) = (context.tenant(), context.app.id);
    let line = store.listed_endpoint(&tenant, app, view.endpoint_id).await?;
    if let Some(rest) = line.as_ref().and_then(|line| line.rest(now)) {
        let next = match rest {
            BreakerPause::Until(at) => format!("The next one is in {}.", roughly(at.since(now).max(SECOND))),
            BreakerPause::Probing => "One is in flight.".to_owned(),
        };
        return Ok(format!("The endpoint is backing off: one attempt at a time until one succeeds. {next}"));
    }
    let spec = line.map(|line| line.endpoint.spec);
    if spec.as_ref().is_some_and(|spec| spec.ordered)
        && let Some(head) = store.head(&tenant, app, view.endpoint_id).await?
        && head != message.id
    {
        return Ok(format!("Ordered delivery: this waits until {head} is delivered or dead."));
    }
    Ok(match (spec.and_then(|spec| spec.throttle_rate), context.app.throttle_rate) {
        (Some(rate), _) => format!("Waiting for the endpoint's rate limit ({rate}/s)."),
        (_, Some(rate)) => {
            format!("Waiting for the application's rate limit ({rate}/s).")
        }
        (None, None) => "An attempt is in flight or about to start.".to_owned(),
    })
}

/// The shortest wait shown.
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
