//! Switches between organizations.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Signed, Who};
use crate::domain::OrgId;

/// `POST /organization`. Fields: `other`, a typed id, or `org`, a selected one. Redirects to the start page, because
/// the current page may not exist in the other organization.
pub async fn choose(
    state: web::Data<DashboardState>,
    signed: Signed,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    let typed = posted.given("other").or_else(|| posted.given("org")).unwrap_or_default();
    let org: Option<OrgId> = typed.parse().ok();
    let org = match org {
        Some(org) if may_see(&state, &signed, &org).await? => org,
        _ => return Ok(done("/", Notice::NoOrganization)),
    };
    state.store.move_session(&signed.hash, &org).await?;
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish())
}

/// Whether the operator may see an organization: one in their account or, with access to all, an existing or the
/// default one.
async fn may_see(state: &DashboardState, signed: &Signed, org: &OrgId) -> Result<bool, PageError> {
    let named = match &signed.who {
        Who::Operator(Some(operator)) => operator.orgs.as_ref().map(|orgs| orgs.contains(org)),
        _ => None,
    };
    match named {
        Some(named) => Ok(named),
        None => {
            let known = *org == signed.org || *org == OrgId::default_org();
            Ok(known || state.store.is_organization(org).await?)
        }
    }
}
