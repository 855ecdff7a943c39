//! The *Resend* button: makes a delivery due at once, with a new retry schedule.

use crate::dashboard::deliveries::deliverable;
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageResult};
use crate::dashboard::http::verified_form::{done, own_path};

/// `POST {base}/messages/{message}/resend`. Fields: `endpoint`; `back`: the page to return to, by default the
/// message's.
pub async fn resend(FormInput { state, request, user: context, submitted }: FormInput<AppContext>) -> PageResult {
    let (store, (message, endpoint)) = deliverable(&state, &request, &context, &submitted)?;
    let (store, now) = (submitted.once(store), state.clock.now());
    let page = context.paths.message(message);
    let back = |notice| Ok(done(own_path(submitted.get("back")).unwrap_or(&page), notice));
    let act = async || {
        let sent = store.resend(&context.tenant(), context.app.id, (message, endpoint), now).await?;
        tracing::info!(org = %context.org, %message, %endpoint, sent, "delivery resent from the dashboard");
        back(if sent { FlashNotice::Resent } else { FlashNotice::NotResent })
    };
    once(&state, &submitted, act, async |_| back(FlashNotice::Resent)).await
}
