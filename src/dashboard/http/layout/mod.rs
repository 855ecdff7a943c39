//! The page layout: header, navigation, menu, breadcrumbs and flash notice. [`app_tabs`] adds the tabs of an
//! application.
//!
//! Invariant: the navigation lists only pages that the user may open.

pub(in crate::dashboard) mod app_tabs;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use actix_web::http::{Method, StatusCode};
use askama::Template;

use crate::dashboard::components::format::Line;
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::assets;
use crate::dashboard::http::current_user::{AppContext, CurrentUser, ORGS, Principal};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::{FlashNotice, FlashText};
use crate::dashboard::http::form_once;
use crate::dashboard::http::preferences::{ClockFace, Prefs, ThemePreference};
use crate::dashboard::http::route_access::OperatorRights;
use crate::dashboard::portal::branding::Brand;
use crate::dashboard::portal::language::Language;
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::time::Clock;
use crate::domain::{OrgId, Time};

/// The active entry of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NavItem {
    Overview,
    Deliveries,
    Messages,
    Endpoints,
    Polling,
    Applications,
    EventTypes,
    Live,
    Resends,
    Outbox,
    Operational,
    Keys,
    Audit,
    Operators,
    Sessions,
    Account,
    Organization,
    Organizations,
    /// The index of the settings.
    Settings,
    Elsewhere,
}

/// A link in the navigation or the menu.
pub struct NavEntry {
    pub name: &'static str,
    pub path: String,
    pub current: bool,
}

/// The signed-in user, as the layout shows it.
pub struct UserMenu {
    /// The label of the menu: the organization; empty in the portal.
    pub name: String,
    /// The organization's name, for display.
    pub label: Line,
    pub customer: bool,
    /// The account's name; empty after a sign-in by link and in the portal.
    pub account: Line,
    /// The organizations to switch to, including the current one; empty if there is only one.
    pub orgs: Vec<String>,
    /// The list was truncated.
    pub more_orgs: bool,
    /// Whether to render the header and the navigation.
    pub head: bool,
    /// The paths of the preferences form and of the sign-out button.
    pub preferences: &'static str,
    pub leave: &'static str,
    /// The current path and query, to return to.
    pub at: String,
}

/// The layout, available to templates as `layout`.
pub struct PageLayout {
    /// `None`: not signed in.
    pub menu: Option<UserMenu>,
    /// The CSRF token of all forms on the page.
    pub csrf: String,
    /// The id of the forms on this page that [act once](form_once).
    pub once: String,
    pub notice: Option<FlashText>,
    pub prefs: Prefs,
    /// The portal's brand. `None`: the dashboard, or a portal page outside a session.
    pub brand: Option<Brand>,
    /// The page is below `/portal`.
    pub portal: bool,
    /// The parents of the page, outermost first, without the page itself.
    pub breadcrumbs: Vec<Breadcrumb>,
    /// The tabs of the application.
    pub tabs: Vec<NavEntry>,
    here: NavItem,
    api_reference: String,
    /// The operator's rights; `None`: a customer, or no session.
    rights: Option<OperatorRights>,
    /// The portal pages in the navigation; `None`: all.
    pages: Option<Vec<PortalPage>>,
    /// The portal session has the live tail, and bulk resends.
    live: bool,
    resends: bool,
}

pub struct Breadcrumb {
    pub href: String,
    pub name: PageText,
}

impl PageLayout {
    /// The layout of a page for a signed-in user.
    pub fn of(user: &CurrentUser, here: NavItem) -> PageLayout {
        let session = match &user.principal {
            Principal::Customer(session) => Some(session),
            Principal::Operator(_) => None,
        };
        let customer = session.is_some();
        let brand = session.map(Brand::of_session);
        let menu = UserMenu {
            name: if customer { String::new() } else { user.org.to_string() },
            label: if customer { Line::default() } else { Line::cut(&user.org_name, 40) },
            customer,
            account: user.account().map(|one| Line::new(&one.name)).unwrap_or_default(),
            orgs: if user.orgs.len() > 1 { user.orgs.iter().map(OrgId::to_string).collect() } else { Vec::new() },
            more_orgs: user.sees_all() && user.orgs.len() >= ORGS as usize,
            head: session.is_none_or(|session| session.options.navigation),
            preferences: if customer { "/portal/preferences" } else { "/preferences" },
            leave: if customer { "/portal/leave" } else { "/logout" },
            at: user.at.clone(),
        };
        PageLayout {
            menu: Some(menu),
            csrf: user.csrf.clone(),
            once: form_once::new_id(),
            notice: None,
            prefs: brand.as_ref().map_or(user.prefs, |brand| brand.preferred(user.prefs)),
            brand,
            portal: customer,
            breadcrumbs: Vec::new(),
            tabs: Vec::new(),
            here,
            api_reference: user.api_reference.clone(),
            rights: user.rights(),
            pages: session.and_then(|session| session.options.pages.clone()),
            live: user.opens("/portal/tail"),
            resends: user.opens("/portal/resend") && user.can(Capability::CreateAttempts),
        }
    }

    /// Adds breadcrumbs: the application, then `parents` as paths and names.
    pub fn below(mut self, context: &AppContext, parents: impl IntoIterator<Item = (String, PageText)>) -> PageLayout {
        let crumb = |(href, name): (String, PageText)| Breadcrumb { href, name };
        if !self.portal {
            let all = match context.operational {
                true => ("/operational".to_owned(), PageText::own("Operational webhooks")),
                false => ("/applications".to_owned(), PageText::own("Applications")),
            };
            self.breadcrumbs.push(crumb(all));
            if !context.operational {
                self.breadcrumbs
                    .push(crumb((context.paths.home().to_owned(), PageText::foreign(&context.app.name, 60))));
            }
        }
        self.breadcrumbs.extend(parents.into_iter().map(crumb));
        self
    }

    /// The layout of a page without a session.
    pub fn bare() -> PageLayout {
        PageLayout {
            menu: None,
            csrf: String::new(),
            once: String::new(),
            notice: None,
            prefs: Prefs::default(),
            brand: None,
            portal: false,
            breadcrumbs: Vec::new(),
            tabs: Vec::new(),
            here: NavItem::Elsewhere,
            api_reference: String::new(),
            rights: None,
            pages: None,
            live: false,
            resends: false,
        }
    }

    /// Adds a parent to the breadcrumbs.
    pub fn under(mut self, href: &str, name: &str) -> PageLayout {
        let name = PageText::Foreign(Line::new(name));
        self.breadcrumbs.push(Breadcrumb { href: href.to_owned(), name });
        self
    }

    /// The layout of a portal page without a session.
    pub fn of_portal(prefs: Prefs, brand: Option<Brand>) -> PageLayout {
        let prefs = brand.as_ref().map_or(prefs, |brand| brand.preferred(prefs));
        PageLayout { prefs, brand, portal: true, ..PageLayout::bare() }
    }

    /// Hides the header with the navigation.
    pub fn without_head(mut self) -> PageLayout {
        if let Some(menu) = &mut self.menu {
            menu.head = false;
        }
        self
    }

    /// Sets the CSRF token.
    pub fn with_token(mut self, csrf: String) -> PageLayout {
        self.csrf = csrf;
        self
    }

    /// Shows the notice named in the URL, if it is known.
    pub fn with_notice(mut self, word: Option<&str>) -> PageLayout {
        self.notice = word.and_then(FlashNotice::from_word).map(FlashNotice::text);
        self
    }

    /// The rendering time; the script corrects the browser's clock by it.
    pub fn now(&self) -> Time {
        Clock.now()
    }

    /// Whether the user is a portal customer.
    pub fn customer(&self) -> bool {
        self.menu.as_ref().is_some_and(|menu| menu.customer)
    }

    /// Whether to offer a link to a page. Pages of the portal decide by capabilities instead.
    pub fn offers(&self, path: &str) -> bool {
        self.rights.is_none_or(|rights| rights.allow(&Method::GET, path))
    }

    /// Whether to offer a form with this action.
    pub fn offers_form(&self, path: &str) -> bool {
        self.rights.is_none_or(|rights| rights.allow(&Method::POST, path))
    }

    /// The path of a static file.
    pub fn asset(&self, name: &str) -> &'static str {
        assets::url(name)
    }

    pub fn themes(&self) -> [ThemePreference; 3] {
        ThemePreference::ALL
    }

    pub fn clocks(&self) -> [ClockFace; 2] {
        ClockFace::ALL
    }

    /// The languages to choose from; only the portal has several.
    pub fn languages(&self) -> &'static [Language] {
        if self.portal { &Language::ALL } else { &[] }
    }

    /// The entries of the navigation.
    pub fn entries(&self) -> Vec<NavEntry> {
        let items: &[(&'static str, &str, NavItem)] = if self.customer() {
            &[
                ("Overview", "", NavItem::Overview),
                ("Endpoints", "endpoints", NavItem::Endpoints),
                ("Polling", "polling", NavItem::Polling),
                ("Messages", "messages", NavItem::Messages),
                ("Deliveries", "deliveries", NavItem::Deliveries),
                ("Event types", "event-types", NavItem::EventTypes),
                ("Live", "tail", NavItem::Live),
            ]
        } else {
            &[
                ("Overview", "/", NavItem::Overview),
                ("Deliveries", "/deliveries", NavItem::Deliveries),
                ("Messages", "/messages", NavItem::Messages),
                ("Endpoints", "/endpoints", NavItem::Endpoints),
                ("Applications", "/applications", NavItem::Applications),
                ("Event types", "/event-types", NavItem::EventTypes),
                ("Live", "/tail", NavItem::Live),
                ("Settings", "/settings", NavItem::Settings),
            ]
        };
        let mut entries = self.listed(items);
        for entry in entries.iter_mut().filter(|entry| entry.path == "/settings") {
            entry.current = self.in_settings();
        }
        entries
    }

    /// The entries of the menu.
    pub fn more(&self) -> Vec<NavEntry> {
        match &self.menu {
            None => return Vec::new(),
            Some(menu) if menu.customer => return self.listed(&[("Resends", "resend", NavItem::Resends)]),
            Some(_) => {}
        }
        self.listed(&[("Resends", "/resend", NavItem::Resends), ("Your account", "/account", NavItem::Account)])
    }

    /// The pages of the settings.
    pub fn settings(&self) -> Vec<NavEntry> {
        let mut entries = self.listed(&[
            ("Organization", "/settings/organization", NavItem::Organization),
            ("Organizations", "/settings/organizations", NavItem::Organizations),
            ("API keys", "/keys", NavItem::Keys),
            ("Operators", "/operators", NavItem::Operators),
            ("Sessions", "/sessions", NavItem::Sessions),
            ("Audit log", "/audit", NavItem::Audit),
            ("Operational webhooks", "/operational", NavItem::Operational),
            ("Outbox", "/outbox", NavItem::Outbox),
        ]);
        // Not a page of the dashboard.
        entries.push(NavEntry { name: "API reference", path: self.api_reference.clone(), current: false });
        entries
    }

    /// Whether the page is one of the settings.
    pub fn in_settings(&self) -> bool {
        let items = [
            NavItem::Organization,
            NavItem::Organizations,
            NavItem::Keys,
            NavItem::Operators,
            NavItem::Sessions,
            NavItem::Audit,
            NavItem::Operational,
            NavItem::Outbox,
        ];
        !self.customer() && (self.here == NavItem::Settings || items.contains(&self.here))
    }

    fn listed(&self, items: &[(&'static str, &str, NavItem)]) -> Vec<NavEntry> {
        let portal = AppPaths::portal();
        let path = |path: &str| match path {
            "" => portal.home().to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            path => portal.page(path),
        };
        let entry = |(name, at, here): &(&'static str, &str, NavItem)| NavEntry {
            name,
            path: path(at),
            current: self.here == *here,
        };
        items.iter().filter(|(_, at, here)| self.has(*here) && self.offers(at)).map(entry).collect()
    }

    /// Whether a portal session includes the entry.
    fn has(&self, here: NavItem) -> bool {
        let page = match here {
            NavItem::Overview => PortalPage::Overview,
            NavItem::Endpoints | NavItem::Polling => PortalPage::Endpoints,
            NavItem::Messages => PortalPage::Messages,
            NavItem::Deliveries => PortalPage::Deliveries,
            NavItem::EventTypes => PortalPage::EventTypes,
            NavItem::Live if self.customer() => return self.live,
            NavItem::Resends if self.customer() => return self.resends,
            NavItem::Account => return self.menu.as_ref().is_some_and(|menu| !menu.account.is_empty()),
            _ => return true,
        };
        self.pages.as_ref().is_none_or(|pages| pages.contains(&page))
    }
}

/// Renders a page as the response.
pub fn answer(status: StatusCode, page: &impl Template) -> Result<HttpResponse, PageError> {
    let html = page.render()?;
    Ok(HttpResponse::build(status).content_type(ContentType::html()).body(html))
}
