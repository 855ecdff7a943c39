//! The switch between organizations, in the menu of every page.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Signed, Who};
use crate::domain::OrgId;

/// `POST /organization`. Fields: `other`, an id that was typed, or else `org`, one that was chosen. Leads to the first page: the one
/// that it was pressed on may be of something that the other organization does not have.
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

/// What an account names is there for it; who sees all sees what there is, and the default organization.
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
