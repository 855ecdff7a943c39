//! The signed-in user of a request.
//!
//! * [`CurrentUser`] – an operator, who sees an organization, or a portal customer, who sees one application. Below
//!   `/portal` the portal cookie applies, elsewhere the operator's.
//! * [`CurrentOperator`] – a user who is an operator; customers get 404.
//! * [`AppContext`] – a user within one application: the one in an operator's path, or the customer's own. An
//!   application's pages take it as input, so they are written once and mounted twice; [`AppPaths`] makes their links.

use std::ops::Deref;
use std::rc::Rc;
use std::time::Instant;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::future::LocalBoxFuture;

use crate::dashboard::DashboardState;
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::preferences::Prefs;
use crate::dashboard::http::session;
use crate::dashboard::http::session::{Cookies, form_token};
use crate::dashboard::portal;
use crate::domain::OrgId;
use crate::domain::access::audit::{Actor, ActorKind};
use crate::domain::access::operator::{Operator, OperatorRole};
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::catalog::application::Application;
use crate::store::access::portal_sessions::PortalSession;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::{AppRef, Store, StoreError, Tenant};
use crate::traffic::rate_limits as limits;

/// The audit log's name for an operator who signed in by a link.
pub const LINK: &str = "a login link";
/// Maximum number of organizations in the menu.
pub const ORGS: i64 = 100;

/// An operator or a portal customer.
#[derive(Clone)]
pub struct CurrentUser {
    pub org: OrgId,
    /// The organization's name, or its id.
    pub org_name: String,
    pub principal: Principal,
    /// The operator's organizations, up to [`ORGS`]. Empty for unsafe methods, which render no menu.
    pub orgs: Vec<OrgId>,
    /// The CSRF token.
    pub csrf: String,
    /// The session's hash, its key in the store.
    pub hash: TokenHash,
    pub prefs: Prefs,
    /// The requested path and query.
    pub at: String,
    /// The API reference: a path, or a URL if the API has another port.
    pub api_reference: String,
}

/// The kind of user.
#[derive(Clone)]
pub enum Principal {
    /// With an account; `None`: by a one-time link.
    Operator(Option<Operator>),
    Customer(PortalSession),
}

impl CurrentUser {
    /// The data that the user can see.
    pub fn tenant(&self) -> Tenant {
        let only = match &self.principal {
            Principal::Operator(_) => None,
            Principal::Customer(session) => Some(session.app_id),
        };
        Tenant { org: self.org.clone(), only }
    }

    /// Whether the session is still valid.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn lasts(&self, state: &DashboardState) -> Result<bool, StoreError> {
        let now = state.clock.now();
        Ok(match &self.principal {
            Principal::Operator(_) => state.store.session(&self.hash, now).await?.is_some(),
            Principal::Customer(_) => state.store.portal_session(&self.hash, now).await?.is_some(),
        })
    }

    /// Whether the user has a capability. Viewers only read; operators and admins have all.
    pub fn can(&self, capability: Capability) -> bool {
        match &self.principal {
            Principal::Operator(_) => {
                capability == Capability::ViewBase || self.role().is_some_and(|role| role >= OperatorRole::Operator)
            }
            Principal::Customer(session) => {
                session.options.capabilities.as_ref().is_none_or(|list| list.contains(&capability))
            }
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
        match &self.principal {
            Principal::Operator(_) => None,
            Principal::Customer(session) => Some(&session.options.feature_flags),
        }
    }

    /// Whether the operator sees all organizations.
    pub fn sees_all(&self) -> bool {
        match &self.principal {
            Principal::Operator(operator) => operator.as_ref().is_none_or(|operator| operator.orgs.is_none()),
            Principal::Customer(_) => false,
        }
    }

    /// Whether the operator may work in an organization.
    pub fn sees_org(&self, org: &OrgId) -> bool {
        match &self.principal {
            Principal::Operator(None) => true,
            Principal::Operator(Some(operator)) => operator.orgs.as_ref().is_none_or(|orgs| orgs.contains(org)),
            Principal::Customer(_) => false,
        }
    }

    /// The operator's account, if they signed in with one.
    pub fn account(&self) -> Option<&Operator> {
        match &self.principal {
            Principal::Operator(operator) => operator.as_ref(),
            Principal::Customer(_) => None,
        }
    }

    /// Whether a part of the portal is enabled. Operators have all.
    pub fn shows(&self, page: PortalPage) -> bool {
        match &self.principal {
            Principal::Operator(_) => true,
            Principal::Customer(session) => session.options.shows(page),
        }
    }

    /// Whether the user may open the page at a path.
    pub fn opens(&self, path: &str) -> bool {
        match &self.principal {
            Principal::Operator(_) => true,
            Principal::Customer(session) => portal::opens(&session.options, path),
        }
    }

    /// The user's start page.
    pub fn first_page(&self) -> String {
        match &self.principal {
            Principal::Operator(_) => "/".to_owned(),
            Principal::Customer(session) => portal::first(&session.options),
        }
    }

    /// A store that records the user as the actor in the audit log.
    pub fn store(&self, store: &Store) -> Store {
        store.by(match &self.principal {
            Principal::Operator(None) => Actor::new(ActorKind::Link, LINK),
            Principal::Operator(Some(operator)) => Actor::new(ActorKind::Operator, &operator.name),
            Principal::Customer(session) => {
                Actor::new(ActorKind::Customer, session.options.session_id.as_deref().unwrap_or("a customer"))
            }
        })
    }

    /// The user of a request's session, read once per request.
    ///
    /// # Errors
    /// No valid session, the page is not part of it, or the store is unavailable.
    pub async fn of(request: HttpRequest) -> Result<CurrentUser, PageError> {
        if let Some(user) = request.extensions().get::<Rc<CurrentUser>>() {
            return Ok((**user).clone());
        }
        let state = request.app_data::<web::Data<DashboardState>>().ok_or(PageError::NotSignedIn)?;
        let cookies = Cookies::at(request.path());
        let cookie = request.cookie(cookies.name(&state.public_url)).ok_or(PageError::NotSignedIn)?;
        let (hash, now) = (session::hash(cookie.value()), state.clock.now());
        let (org, principal) = match cookies {
            Cookies::Operator | Cookies::SignIn | Cookies::Device | Cookies::Oidc => {
                match state.store.session(&hash, now).await? {
                    Some(session) => (session.org, Principal::Operator(session.operator)),
                    None => return Err(PageError::NotSignedIn),
                }
            }
            Cookies::Portal => match state.store.portal_session(&hash, now).await? {
                Some(session) => (session.org.clone(), Principal::Customer(session)),
                None => return Err(PageError::NotSignedIn),
            },
        };
        // From now on, requests count against the session, not the address.
        drop(state.traffic.limits.bucket(limited_by(hash), Instant::now()));
        let orgs =
            if request.method().is_safe() { organizations(&state.store, &org, &principal).await? } else { Vec::new() };
        state.store.refresh_organizations().await;
        let named = state.store.organization_defaults().of(&org).map(|spec| spec.name.clone());
        let user = CurrentUser {
            org_name: named.filter(|name| !name.is_empty()).unwrap_or_else(|| org.to_string()),
            org,
            principal,
            orgs,
            csrf: form_token(&state.secret, cookies.form(), cookie.value()),
            hash,
            prefs: Prefs::of(&request),
            at: request.uri().to_string(),
            api_reference: state.api_reference(),
        };
        if !user.opens(request.path()) {
            return Err(PageError::NotFound);
        }
        if let Principal::Customer(session) = &user.principal {
            portal::branding::allow_logo(&request, session.options.theme.as_ref());
        }
        request.extensions_mut().insert(Rc::new(user.clone()));
        Ok(user)
    }
}

/// The rate limit key of a session.
pub fn limited_by(hash: TokenHash) -> limits::CallerId {
    limits::CallerId::Session(hash)
}

impl FromRequest for CurrentUser {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<CurrentUser, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        Box::pin(CurrentUser::of(request.clone()))
    }
}

/// A signed-in operator.
#[derive(Clone)]
pub struct CurrentOperator(CurrentUser);

impl Deref for CurrentOperator {
    type Target = CurrentUser;

    fn deref(&self) -> &CurrentUser {
        &self.0
    }
}

impl FromRequest for CurrentOperator {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<CurrentOperator, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let user = CurrentUser::of(request.clone());
        Box::pin(async move {
            let user = user.await?;
            match user.principal {
                Principal::Operator(_) => Ok(CurrentOperator(user)),
                Principal::Customer(_) => Err(PageError::NotFound),
            }
        })
    }
}

/// A user within one application.
#[derive(Clone)]
pub struct AppContext {
    pub user: CurrentUser,
    pub app: Application,
    pub paths: AppPaths,
    /// The hidden application that carries operational webhooks.
    pub operational: bool,
}

impl Deref for AppContext {
    type Target = CurrentUser;

    fn deref(&self) -> &CurrentUser {
        &self.user
    }
}

impl FromRequest for AppContext {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<AppContext, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let user = CurrentUser::of(request.clone()).await?;
            let state = request.app_data::<web::Data<DashboardState>>().ok_or(PageError::NotSignedIn)?;
            let (named, paths) = match &user.principal {
                Principal::Operator(_) => {
                    (AppRef::parse(part(&request, "app")?).map_err(|_| PageError::NotFound)?, None)
                }
                Principal::Customer(session) => (AppRef::Id(session.app_id), Some(AppPaths::portal())),
            };
            let (app, operational) =
                application(&state.store, &user.tenant(), &named).await?.ok_or(PageError::NotFound)?;
            let paths = paths.unwrap_or_else(|| AppPaths::of_application(app.id));
            Ok(AppContext { user, app, paths, operational })
        })
    }
}

/// The organizations that an operator can switch to.
async fn organizations(store: &Store, org: &OrgId, principal: &Principal) -> Result<Vec<OrgId>, StoreError> {
    let mut orgs = match principal {
        Principal::Customer(_) => return Ok(Vec::new()),
        Principal::Operator(Some(Operator { orgs: Some(orgs), .. })) => orgs.clone(),
        Principal::Operator(_) => {
            let mut found = store.organizations(ORGS).await?;
            // These two are offered even before they have data.
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
