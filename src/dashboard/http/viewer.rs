//! The signed-in user of a request.
//!
//! * [`CurrentUser`] – an operator, who sees an organization, or a portal customer, who sees one application. Below
//!   `/portal` the portal cookie applies, elsewhere the operator's.
//! * [`CurrentOperator`] – a user who is an operator; customers get 404.
//! * [`AppContext`] – a user within one application: the one in an operator's path, or the customer's own. The pages of
//!   an application are written once with it and mounted twice; [`AppPaths`] makes their links.

use std::ops::Deref;
use std::rc::Rc;
use std::time::Instant;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::future::LocalBoxFuture;

use crate::dashboard::DashboardState;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::place::Place;
use crate::dashboard::http::preferences::Prefs;
use crate::dashboard::http::session;
use crate::dashboard::http::session::{Cookies, form_token};
use crate::dashboard::portal;
use crate::domain::OrgId;
use crate::domain::access::audit::{Actor, ActorKind};
use crate::domain::access::operator::Operator;
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::catalog::application::Application;
use crate::store::access::portal_sessions::Visit;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::{AppRef, Store, StoreError, Tenant};
use crate::traffic::rate_limits as limits;

/// The audit log's name for an operator who signed in by a link.
pub const LINK: &str = "a login link";
/// How many organizations the menu lists.
pub const ORGS: i64 = 100;

/// An operator or a portal customer.
#[derive(Clone)]
pub struct Viewer {
    pub org: OrgId,
    pub who: Who,
    /// The operator's organizations, up to [`ORGS`]. Empty for unsafe methods, which render no menu.
    pub orgs: Vec<OrgId>,
    /// The CSRF token.
    pub csrf: String,
    /// The session's hash, its key in the store.
    pub hash: TokenHash,
    pub prefs: Prefs,
    /// The requested path and query.
    pub at: String,
}

/// The kind of user.
#[derive(Clone)]
pub enum Who {
    /// With an account; `None`: by a one-time link.
    Operator(Option<Operator>),
    Customer(Visit),
}

impl Viewer {
    /// The data that the user can see.
    pub fn tenant(&self) -> Tenant {
        let only = match &self.who {
            Who::Operator(_) => None,
            Who::Customer(visit) => Some(visit.app_id),
        };
        Tenant { org: self.org.clone(), only }
    }

    /// Whether the session is still valid.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn lasts(&self, state: &DashboardState) -> Result<bool, StoreError> {
        let now = state.clock.now();
        Ok(match &self.who {
            Who::Operator(_) => state.store.session(&self.hash, now).await?.is_some(),
            Who::Customer(_) => state.store.visit(&self.hash, now).await?.is_some(),
        })
    }

    /// Whether the user has a capability. Operators have all.
    pub fn can(&self, capability: Capability) -> bool {
        match &self.who {
            Who::Operator(_) => true,
            Who::Customer(visit) => visit.options.capabilities.as_ref().is_none_or(|list| list.contains(&capability)),
        }
    }

    /// Requires a capability.
    ///
    /// # Errors
    /// The user lacks it.
    pub fn need(&self, capability: Capability) -> Result<(), PageError> {
        if self.can(capability) { Ok(()) } else { Err(PageError::NotAllowed) }
    }

    /// Whether the user has at least one of these capabilities.
    pub fn can_any(&self, capabilities: &[Capability]) -> bool {
        capabilities.iter().any(|one| self.can(*one))
    }

    /// Requires at least one of these capabilities.
    ///
    /// # Errors
    /// The user has none.
    pub fn need_any(&self, capabilities: &[Capability]) -> Result<(), PageError> {
        if self.can_any(capabilities) { Ok(()) } else { Err(PageError::NotAllowed) }
    }

    /// The feature flags of a portal session; `None`: an operator, who sees everything.
    pub fn flags(&self) -> Option<&[String]> {
        match &self.who {
            Who::Operator(_) => None,
            Who::Customer(visit) => Some(&visit.options.feature_flags),
        }
    }

    /// Whether the operator sees all organizations, and so manages accounts.
    pub fn sees_all(&self) -> bool {
        match &self.who {
            Who::Operator(operator) => operator.as_ref().is_none_or(|operator| operator.orgs.is_none()),
            Who::Customer(_) => false,
        }
    }

    /// The operator's account, if they signed in with one.
    pub fn account(&self) -> Option<&Operator> {
        match &self.who {
            Who::Operator(operator) => operator.as_ref(),
            Who::Customer(_) => None,
        }
    }

    /// Whether a part of the portal is enabled. Operators have all.
    pub fn shows(&self, page: PortalPage) -> bool {
        match &self.who {
            Who::Operator(_) => true,
            Who::Customer(visit) => visit.options.shows(page),
        }
    }

    /// Whether the user may open the page at a path.
    pub fn opens(&self, path: &str) -> bool {
        match &self.who {
            Who::Operator(_) => true,
            Who::Customer(visit) => portal::opens(&visit.options, path),
        }
    }

    /// The user's start page.
    pub fn first_page(&self) -> String {
        match &self.who {
            Who::Operator(_) => "/".to_owned(),
            Who::Customer(visit) => portal::first(&visit.options),
        }
    }

    /// A store that records the user as the actor in the audit log.
    pub fn store(&self, store: &Store) -> Store {
        store.by(match &self.who {
            Who::Operator(None) => Actor::new(ActorKind::Link, LINK),
            Who::Operator(Some(operator)) => Actor::new(ActorKind::Operator, &operator.name),
            Who::Customer(visit) => {
                Actor::new(ActorKind::Customer, visit.options.session_id.as_deref().unwrap_or("a customer"))
            }
        })
    }

    async fn of(request: HttpRequest) -> Result<Viewer, PageError> {
        if let Some(viewer) = request.extensions().get::<Rc<Viewer>>() {
            return Ok((**viewer).clone());
        }
        let state = request.app_data::<web::Data<DashboardState>>().ok_or(PageError::NotSignedIn)?;
        let cookies = Cookies::at(request.path());
        let cookie = request.cookie(cookies.name(&state.public_url)).ok_or(PageError::NotSignedIn)?;
        let (hash, now) = (session::hash(cookie.value()), state.clock.now());
        let (org, who) = match cookies {
            Cookies::Operator | Cookies::Door | Cookies::Device => match state.store.session(&hash, now).await? {
                Some(session) => (session.org, Who::Operator(session.operator)),
                None => return Err(PageError::NotSignedIn),
            },
            Cookies::Visit => match state.store.visit(&hash, now).await? {
                Some(visit) => (visit.org.clone(), Who::Customer(visit)),
                None => return Err(PageError::NotSignedIn),
            },
        };
        // From now on, requests count against the session, not the address.
        drop(state.traffic.limits.bucket(limited_by(hash), Instant::now()));
        let orgs = if request.method().is_safe() { organizations(&state.store, &org, &who).await? } else { Vec::new() };
        let viewer = Viewer {
            org,
            who,
            orgs,
            csrf: form_token(&state.secret, cookies.form(), cookie.value()),
            hash,
            prefs: Prefs::of(&request),
            at: request.uri().to_string(),
        };
        if !viewer.opens(request.path()) {
            return Err(PageError::NotFound);
        }
        if let Who::Customer(visit) = &viewer.who {
            portal::looks::allow_logo(&request, visit.options.theme.as_ref());
        }
        request.extensions_mut().insert(Rc::new(viewer.clone()));
        Ok(viewer)
    }
}

/// The rate limit key of a session.
pub fn limited_by(hash: TokenHash) -> limits::CallerId {
    limits::CallerId::Session(hash)
}

impl FromRequest for Viewer {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<Viewer, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        Box::pin(Viewer::of(request.clone()))
    }
}

/// A signed-in operator.
#[derive(Clone)]
pub struct Signed(Viewer);

impl Deref for Signed {
    type Target = Viewer;

    fn deref(&self) -> &Viewer {
        &self.0
    }
}

impl FromRequest for Signed {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<Signed, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let viewer = Viewer::of(request.clone());
        Box::pin(async move {
            let viewer = viewer.await?;
            match viewer.who {
                Who::Operator(_) => Ok(Signed(viewer)),
                Who::Customer(_) => Err(PageError::NotFound),
            }
        })
    }
}

/// A user within one application.
#[derive(Clone)]
pub struct Inside {
    pub viewer: Viewer,
    pub app: Application,
    pub place: Place,
    /// The hidden application that carries operational webhooks.
    pub operational: bool,
}

impl Deref for Inside {
    type Target = Viewer;

    fn deref(&self) -> &Viewer {
        &self.viewer
    }
}

impl FromRequest for Inside {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<Inside, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let viewer = Viewer::of(request.clone()).await?;
            let state = request.app_data::<web::Data<DashboardState>>().ok_or(PageError::NotSignedIn)?;
            let (named, place) = match &viewer.who {
                Who::Operator(_) => (AppRef::parse(part(&request, "app")?).map_err(|_| PageError::NotFound)?, None),
                Who::Customer(visit) => (AppRef::Id(visit.app_id), Some(Place::portal())),
            };
            let (app, operational) =
                application(&state.store, &viewer.tenant(), &named).await?.ok_or(PageError::NotFound)?;
            let place = place.unwrap_or_else(|| Place::of_application(app.id));
            Ok(Inside { viewer, app, place, operational })
        })
    }
}

/// The organizations that an operator can switch to.
async fn organizations(store: &Store, org: &OrgId, who: &Who) -> Result<Vec<OrgId>, StoreError> {
    let mut orgs = match who {
        Who::Customer(_) => return Ok(Vec::new()),
        Who::Operator(Some(Operator { orgs: Some(orgs), .. })) => orgs.clone(),
        Who::Operator(_) => {
            let mut found = store.organizations(ORGS).await?;
            // Neither needs to have data yet.
            found.extend([OrgId::default_org(), org.clone()]);
            found
        }
    };
    orgs.sort_unstable();
    orgs.dedup();
    Ok(orgs)
}

/// A named segment of the path. Ids and names need no percent-encoding.
///
/// # Errors
/// The route has no such segment.
pub fn part<'r>(request: &'r HttpRequest, name: &str) -> Result<&'r str, PageError> {
    request.match_info().get(name).ok_or(PageError::NotFound)
}

/// Finds an application by id or uid, including the hidden one for operational webhooks.
async fn application(
    store: &Store,
    tenant: &Tenant,
    named: &AppRef,
) -> Result<Option<(Application, bool)>, StoreError> {
    if let Some(app) = store.application(tenant, named).await? {
        return Ok(Some((app, false)));
    }
    let hidden = if tenant.only.is_none() { store.operational_application(tenant).await? } else { None };
    Ok(hidden.filter(|hidden| AppRef::Id(hidden.id) == *named).map(|hidden| (hidden, true)))
}
