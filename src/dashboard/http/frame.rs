//! The page layout: header, navigation, menu, breadcrumbs and flash notice.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use askama::Template;

use crate::dashboard::components::format::Line;
use crate::dashboard::http::assets;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::notice::{Notice, Said};
use crate::dashboard::http::place::Place;
use crate::dashboard::http::preferences::{ClockFace, Prefs, Theme};
use crate::dashboard::http::viewer::{Inside, ORGS, Viewer, Who};
use crate::dashboard::portal::looks::Brand;
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::time::Clock;
use crate::domain::{OrgId, Time};

/// The active entry of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
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
    Elsewhere,
}

/// A link in the navigation or the menu.
pub struct Entry {
    pub name: &'static str,
    pub path: String,
    pub current: bool,
}

/// The signed-in user, as the layout shows it.
pub struct Seen {
    /// The label of the menu: the organization; empty in the portal.
    pub name: String,
    pub customer: bool,
    /// The account's name; empty after a sign-in by link and in the portal.
    pub who: Line,
    /// The organizations to switch to, including the current one; empty if there is only one.
    pub orgs: Vec<String>,
    /// The list was truncated.
    pub more_orgs: bool,
    /// The user manages accounts.
    all: bool,
    /// Whether to render the header and the navigation.
    pub head: bool,
    /// The paths of the preferences form and of the sign-out button.
    pub preferences: &'static str,
    pub leave: &'static str,
    /// The current path and query, to return to.
    pub at: String,
}

/// The layout, available to templates as `layout`.
pub struct Frame {
    /// `None`: not signed in.
    pub seen: Option<Seen>,
    /// The CSRF token of all forms on the page.
    pub csrf: String,
    pub notice: Option<Said>,
    pub prefs: Prefs,
    /// The portal's brand. `None`: the dashboard, or a portal page outside a session.
    pub brand: Option<Brand>,
    /// The page is below `/portal`.
    pub portal: bool,
    /// The parents of the page, outermost first, without the page itself.
    pub crumbs: Vec<Crumb>,
    here: Here,
    /// The portal pages in the navigation; `None`: all.
    pages: Option<Vec<PortalPage>>,
    /// The portal session has the live tail, and bulk resends.
    live: bool,
    resends: bool,
}

pub struct Crumb {
    pub href: String,
    pub name: Line,
}

impl Frame {
    /// The layout of a page for a signed-in user.
    pub fn of(viewer: &Viewer, here: Here) -> Frame {
        let visit = match &viewer.who {
            Who::Customer(visit) => Some(visit),
            Who::Operator(_) => None,
        };
        let customer = visit.is_some();
        let brand = visit.map(Brand::of_visit);
        let seen = Seen {
            name: if customer { String::new() } else { viewer.org.to_string() },
            customer,
            who: viewer.account().map(|one| Line::new(&one.name)).unwrap_or_default(),
            orgs: if viewer.orgs.len() > 1 { viewer.orgs.iter().map(OrgId::to_string).collect() } else { Vec::new() },
            more_orgs: viewer.sees_all() && viewer.orgs.len() >= ORGS as usize,
            all: viewer.sees_all(),
            head: visit.is_none_or(|visit| visit.options.navigation),
            preferences: if customer { "/portal/preferences" } else { "/preferences" },
            leave: if customer { "/portal/leave" } else { "/logout" },
            at: viewer.at.clone(),
        };
        Frame {
            seen: Some(seen),
            csrf: viewer.csrf.clone(),
            notice: None,
            prefs: brand.as_ref().map_or(viewer.prefs, |brand| brand.preferred(viewer.prefs)),
            brand,
            portal: customer,
            crumbs: Vec::new(),
            here,
            pages: visit.and_then(|visit| visit.options.pages.clone()),
            live: viewer.opens("/portal/tail"),
            resends: viewer.opens("/portal/resend") && viewer.can(Capability::CreateAttempts),
        }
    }

    /// Adds breadcrumbs: the application, then `parents` as paths and names.
    pub fn below(mut self, inside: &Inside, things: impl IntoIterator<Item = (String, Line)>) -> Frame {
        let crumb = |(href, name): (String, Line)| Crumb { href, name };
        if !self.portal {
            let all = match inside.operational {
                true => ("/operational".to_owned(), Line::new("Operational webhooks")),
                false => ("/applications".to_owned(), Line::new("Applications")),
            };
            self.crumbs.push(crumb(all));
            if !inside.operational {
                self.crumbs.push(crumb((inside.place.home().to_owned(), Line::cut(&inside.app.name, 60))));
            }
        }
        self.crumbs.extend(things.into_iter().map(crumb));
        self
    }

    /// The layout of a page without a session.
    pub fn bare() -> Frame {
        Frame {
            seen: None,
            csrf: String::new(),
            notice: None,
            prefs: Prefs::default(),
            brand: None,
            portal: false,
            crumbs: Vec::new(),
            here: Here::Elsewhere,
            pages: None,
            live: false,
            resends: false,
        }
    }

    /// The layout of a portal page without a session.
    pub fn of_portal(prefs: Prefs, brand: Option<Brand>) -> Frame {
        let prefs = brand.as_ref().map_or(prefs, |brand| brand.preferred(prefs));
        Frame { prefs, brand, portal: true, ..Frame::bare() }
    }

    /// Sets the CSRF token.
    pub fn with_token(mut self, csrf: String) -> Frame {
        self.csrf = csrf;
        self
    }

    /// Shows the notice named in the URL, if it is known.
    pub fn noting(mut self, word: Option<&str>) -> Frame {
        self.notice = word.and_then(Notice::from_word).map(Notice::said);
        self
    }

    /// The rendering time; the script corrects the browser's clock by it.
    pub fn now(&self) -> Time {
        Clock.now()
    }

    /// Whether the user is a portal customer.
    pub fn customer(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.customer)
    }

    /// The path of a static file.
    pub fn asset(&self, name: &str) -> &'static str {
        assets::url(name)
    }

    pub fn themes(&self) -> [Theme; 3] {
        Theme::ALL
    }

    pub fn clocks(&self) -> [ClockFace; 2] {
        ClockFace::ALL
    }

    /// The entries of the navigation.
    pub fn entries(&self) -> Vec<Entry> {
        let places: &[(&'static str, &str, Here)] = if self.customer() {
            &[
                ("Overview", "", Here::Overview),
                ("Endpoints", "endpoints", Here::Endpoints),
                ("Polling", "polling", Here::Polling),
                ("Messages", "messages", Here::Messages),
                ("Deliveries", "deliveries", Here::Deliveries),
                ("Event types", "event-types", Here::EventTypes),
                ("Live", "tail", Here::Live),
            ]
        } else {
            &[
                ("Overview", "/", Here::Overview),
                ("Deliveries", "/deliveries", Here::Deliveries),
                ("Messages", "/messages", Here::Messages),
                ("Endpoints", "/endpoints", Here::Endpoints),
                ("Applications", "/applications", Here::Applications),
                ("Event types", "/event-types", Here::EventTypes),
                ("Live", "/tail", Here::Live),
            ]
        };
        self.listed(places)
    }

    /// The entries of the menu.
    pub fn more(&self) -> Vec<Entry> {
        match &self.seen {
            None => return Vec::new(),
            Some(seen) if seen.customer => return self.listed(&[("Resends", "resend", Here::Resends)]),
            Some(_) => {}
        }
        let all = self.seen.as_ref().is_some_and(|seen| seen.all);
        self.listed(&[
            ("Resends", "/resend", Here::Resends),
            ("Outbox", "/outbox", Here::Outbox),
            ("Operational webhooks", "/operational", Here::Operational),
            ("API keys", "/keys", Here::Keys),
            ("Audit log", "/audit", Here::Audit),
            (if all { "Operators" } else { "Your account" }, "/operators", Here::Operators),
        ])
    }

    fn listed(&self, places: &[(&'static str, &str, Here)]) -> Vec<Entry> {
        let portal = Place::portal();
        let path = |path: &str| match path {
            "" => portal.home().to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            path => portal.page(path),
        };
        let entry =
            |(name, at, here): &(&'static str, &str, Here)| Entry { name, path: path(at), current: self.here == *here };
        places.iter().filter(|(_, _, here)| self.has(*here)).map(entry).collect()
    }

    /// Whether a portal session includes the entry.
    fn has(&self, here: Here) -> bool {
        let page = match here {
            Here::Overview => PortalPage::Overview,
            Here::Endpoints | Here::Polling => PortalPage::Endpoints,
            Here::Messages => PortalPage::Messages,
            Here::Deliveries => PortalPage::Deliveries,
            Here::EventTypes => PortalPage::EventTypes,
            Here::Live if self.customer() => return self.live,
            Here::Resends if self.customer() => return self.resends,
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
