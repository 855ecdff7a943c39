//! The *Cancel* button: cancels a pending delivery.

use crate::dashboard::deliveries::deliverable;
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageResult};
use crate::dashboard::http::verified_form::done;

/// `POST {base}/messages/{message}/cancel`. Field: `endpoint`.
pub async fn cancel(FormInput { state, request, user: context, submitted }: FormInput<AppContext>) -> PageResult {
    let (store, (message, endpoint)) = deliverable(&state, &request, &context, &submitted)?;
    let ended = store.cancel(&context.tenant(), context.app.id, (message, endpoint), state.clock.now()).await?;
    tracing::info!(org = %context.org, %message, %endpoint, ended, "delivery canceled from the dashboard");
    Ok(done(&context.paths.message(message), if ended { FlashNotice::Canceled } else { FlashNotice::NotCanceled }))
}
