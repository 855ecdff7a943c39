//! Cancels the selected rows of a list of deliveries: a page that says how many are pending, then the list of these
//! rows in their new state.

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::bulk::base;
use crate::dashboard::components::filtered_list::ListCursor;
use crate::dashboard::components::filters::{FilterParams, Filters};
use crate::dashboard::components::format::{UrlQuery, counted};
use crate::dashboard::components::pagination::LINES;
use crate::dashboard::http::current_user::CurrentUser;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::done;
use crate::domain::access::portal::Capability;
use crate::store::query::delivery_list::ListedDelivery;

#[derive(Template)]
#[template(path = "cancel_selected.html")]
struct CancelPage {
    layout: PageLayout,
    action: String,
    /// The values of the selected rows.
    rows: Vec<String>,
    /// `3 deliveries`; `None`: none is pending.
    pending: Option<String>,
    /// The selected deliveries that are not pending.
    others: Option<String>,
    back: String,
}

/// The selected deliveries.
struct SelectedDeliveries {
    found: Vec<ListedDelivery>,
    /// The list of these deliveries.
    list: String,
}

impl SelectedDeliveries {
    /// # Errors
    /// The store is unavailable, or the selection is empty or malformed.
    async fn read<'v>(
        state: &DashboardState,
        user: &CurrentUser,
        values: impl Fn(&'static str) -> Vec<&'v str>,
    ) -> Result<SelectedDeliveries, PageError> {
        let (store, tenant, now) = (&state.store, user.tenant(), state.clock.now());
        let params = FilterParams::from(format!("{}/deliveries", base(user)), &["row"], values);
        let filters = Filters::of(store, &tenant, tenant.only, &params, now).await?;
        if filters.rows.is_none() {
            return Err(PageError::BadRequest("Select deliveries in the list first, at most those of one page."));
        }
        let found = store.list_deliveries(&tenant, &filters.deliveries(), None, LINES).await?.data;
        Ok(SelectedDeliveries { found, list: params.first() })
    }

    fn pending(&self) -> impl Iterator<Item = &ListedDelivery> {
        self.found.iter().filter(|one| one.state.pending())
    }
}

/// `GET {base}/cancel?row=`.
pub async fn ask(PageInput { state, request, user }: PageInput<CurrentUser>) -> PageResult {
    user.need(Capability::CreateAttempts)?;
    let query = UrlQuery::of(&request);
    let selected = SelectedDeliveries::read(&state, &user, |name| query.all(name).collect()).await?;
    let deliveries = |n: usize| (n > 0).then(|| counted(n as i64, "delivery", "deliveries"));
    let pending = selected.pending().count();
    let page = CancelPage {
        layout: PageLayout::of(&user, NavItem::Deliveries),
        action: format!("{}/cancel", base(&user)),
        rows: selected.found.iter().map(|one| (one.message_id, one.endpoint_id).text()).collect(),
        pending: deliveries(pending),
        others: deliveries(selected.found.len() - pending),
        back: selected.list,
    };
    answer(StatusCode::OK, &page)
}

/// `POST {base}/cancel`. Field: `row`, repeated.
pub async fn cancel(FormInput { state, user, submitted, .. }: FormInput<CurrentUser>) -> PageResult {
    user.need(Capability::CreateAttempts)?;
    let selected = SelectedDeliveries::read(&state, &user, |name| submitted.all(name).collect()).await?;
    let (store, tenant, now) = (user.store(&state.store), user.tenant(), state.clock.now());
    let mut canceled = 0;
    for one in selected.pending() {
        if store.cancel(&tenant, one.app_id, (one.message_id, one.endpoint_id), now).await? {
            canceled += 1;
        }
    }
    tracing::info!(org = %user.org, canceled, of = selected.found.len(), "selected deliveries canceled from the dashboard");
    let notice = if canceled > 0 { FlashNotice::SelectionCanceled } else { FlashNotice::SelectionNotCanceled };
    Ok(done(&selected.list, notice))
}
