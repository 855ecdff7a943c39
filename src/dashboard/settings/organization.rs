//! Switches between organizations.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;

use crate::dashboard::DashboardState;
use crate::dashboard::http::current_user::{CurrentOperator, Principal};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageResult};
use crate::dashboard::http::verified_form::done;
use crate::domain::OrgId;

/// `POST /organization`. Fields: `other`, a typed id, or `org`, a selected one. Redirects to the start page, because
/// the current page may not exist in the other organization.
pub async fn choose(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let typed = submitted.given("other").or_else(|| submitted.given("org")).unwrap_or_default();
    let org: Option<OrgId> = typed.parse().ok();
    let org = match org {
        Some(org) if may_see(&state, &user, &org).await? => org,
        _ => return Ok(done("/", FlashNotice::NoOrganization)),
    };
    state.store.select_organization(&user.hash, &org).await?;
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish())
}

/// Whether the operator may see an organization: one in their account or, with access to all, an existing or the
/// default one.
async fn may_see(state: &DashboardState, user: &CurrentOperator, org: &OrgId) -> Result<bool, PageError> {
    let named = match &user.principal {
        Principal::Operator(Some(operator)) => operator.orgs.as_ref().map(|orgs| orgs.contains(org)),
        _ => None,
    };
    match named {
        Some(named) => Ok(named),
        None => {
            let known = *org == user.org || *org == OrgId::default_org();
            Ok(known || state.store.is_organization(org).await?)
        }
    }
}
