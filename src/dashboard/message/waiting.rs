//! Why a pending delivery waits, in one sentence.

use super::Card;
use crate::dashboard::error::PageError;
use crate::dashboard::show::{Line, roughly};
use crate::dashboard::viewer::Inside;
use crate::domain::Time;
use crate::domain::delivery::State;
use crate::domain::message::Message;
use crate::store::Store;
use crate::store::catalog::endpoint_list::Rest;
use crate::store::query::deliveries::DeliveryView;

impl Card {
    /// Says why a pending delivery waits.
    pub(super) async fn say_why(
        &mut self,
        store: &Store,
        inside: &Inside,
        message: &Message,
        view: &DeliveryView,
        now: Time,
    ) -> Result<(), PageError> {
        let scheduled =
            message.deliver_at.is_some_and(|at| at > now) && view.state == State::Fresh && view.attempts == 0;
        let why = if view.endpoint_disabled {
            Some("The endpoint is disabled: this goes on when it is enabled again.".to_owned())
        } else if scheduled {
            Some("It is scheduled, and not sent before its time.".to_owned())
        } else if view.due_at > now {
            None
        } else {
            Some(overdue(store, inside, message, view, now).await?)
        };
        self.why = why.map(|why| Line::new(&why));
        Ok(())
    }
}

/// Why one that is due has not been sent yet.
async fn overdue(
    store: &Store,
    inside: &Inside,
    message: &Message,
    view: &DeliveryView,
    now: Time,
) -> Result<String, PageError> {
    let (tenant, app) = (inside.tenant(), inside.app.id);
    let line = store.endpoint_line(&tenant, app, view.endpoint_id).await?;
    if let Some(rest) = line.as_ref().and_then(|line| line.rest(now)) {
        let next = match rest {
            Rest::Until(at) => format!("the next one follows in {}", roughly(at.since(now).max(SECOND))),
            Rest::Probing => "one is being made".to_owned(),
        };
        return Ok(format!("The endpoint rests: it gets only single attempts until one is answered, and {next}."));
    }
    let spec = line.map(|line| line.endpoint.spec);
    if spec.as_ref().is_some_and(|spec| spec.ordered)
        && let Some(head) = store.head(&tenant, app, view.endpoint_id).await?
        && head != message.id
    {
        return Ok(format!(
            "The endpoint is sent one after another: this comes after {head}, once that is delivered or dead."
        ));
    }
    Ok(match (spec.and_then(|spec| spec.throttle_rate), inside.app.throttle_rate) {
        (Some(rate), _) => format!("The endpoint is sent at most {rate} a second: this waits for its turn."),
        (_, Some(rate)) => {
            format!("The application's endpoints are sent at most {rate} a second: this waits for its turn.")
        }
        (None, None) => "Its turn has come: an attempt is being made, or about to be.".to_owned(),
    })
}

/// Shorter waits are shown as this.
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
