//! What surrounds a page: the head, the navigation, the menu, and the notice after something was done.

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

/// Which entry of the navigation is the current one.
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

/// An entry of the navigation or the menu.
pub struct Entry {
    pub name: &'static str,
    pub path: String,
    pub current: bool,
}

/// Somebody who looks at the page, as far as the frame shows it.
pub struct Seen {
    /// What is named beside the menu: the organization; empty in the portal.
    pub name: String,
    pub customer: bool,
    /// Who is signed in: an account's name; empty by a link and in the portal.
    pub who: Line,
    /// What an operator can switch to, the current one included; empty where there is no other.
    pub orgs: Vec<String>,
    /// There may be more than these.
    pub more_orgs: bool,
    /// Looks after the accounts.
    all: bool,
    /// Whether there is a head with the navigation.
    pub head: bool,
    /// Where the form of preferences goes, and where the button that ends the session.
    pub preferences: &'static str,
    pub leave: &'static str,
    /// The page itself, to come back to.
    pub at: String,
}

/// What a page's template finds under `frame`.
pub struct Frame {
    /// `None`: nobody is signed in.
    pub seen: Option<Seen>,
    /// What each form carries.
    pub csrf: String,
    pub notice: Option<Said>,
    pub prefs: Prefs,
    /// What stands in place of ours in the portal. `None`: ours, or on a page of the portal that is nobody's, none.
    pub brand: Option<Brand>,
    /// Below `/portal`.
    pub portal: bool,
    /// Where the page is: what it belongs to, from the widest on. Not the page itself.
    pub crumbs: Vec<Crumb>,
    here: Here,
    /// What of the navigation is there; `None`: everything.
    pages: Option<Vec<PortalPage>>,
    /// Whether a customer has the live view, and may resend in bulk.
    live: bool,
    resends: bool,
}

/// The parents of a page, as breadcrumbs.
pub struct Crumb {
    pub href: String,
    pub name: Line,
}

impl Frame {
    /// Around a page for whoever looks.
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

    /// On a page that belongs to the application, and to what else is named: each a path and a name.
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

    /// Around a page for anybody.
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

    /// Around a page of the portal for who is not inside.
    pub fn of_portal(prefs: Prefs, brand: Option<Brand>) -> Frame {
        let prefs = brand.as_ref().map_or(prefs, |brand| brand.preferred(prefs));
        Frame { prefs, brand, portal: true, ..Frame::bare() }
    }

    /// With the token that its forms carry.
    pub fn with_token(mut self, csrf: String) -> Frame {
        self.csrf = csrf;
        self
    }

    /// With the notice that the URL names, if it does.
    pub fn noting(mut self, word: Option<&str>) -> Frame {
        self.notice = word.and_then(Notice::from_word).map(Notice::said);
        self
    }

    /// When the page was made: what the script sets its clock by.
    pub fn now(&self) -> Time {
        Clock.now()
    }

    /// Whether a customer looks.
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

    /// Where one can go.
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

    /// What stands in the menu: looked for less often.
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

    /// Whether the page is there for a customer whom the team has left only some.
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

/// The answer that a page makes.
pub fn answer(status: StatusCode, page: &impl Template) -> Result<HttpResponse, PageError> {
    let html = page.render()?;
    Ok(HttpResponse::build(status).content_type(ContentType::html()).body(html))
}
