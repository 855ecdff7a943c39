//! What a customer may see and do in the **portal**, the pages for one application.
//!
//! * A [`Capability`] is one such thing. A token or link that names none has all of them.
//! * A [`PortalPage`] is a part of the portal that the team can leave out.
//! * [`PortalOptions`] is what the team decided for one customer's visit; a **portal link** carries it, by its one-time
//!   code.

use serde::{Deserialize, Serialize};

use crate::domain::access::theme::Theme;
use crate::domain::{AppId, Invalid, OrgId, Time, ids, limits};

/// One thing that a customer may do. The words are the dialect's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Capability {
    /// Look at everything but the endpoints' secrets. Every visit has it.
    ViewBase,
    ViewEndpointSecret,
    /// Rotate a secret, and see it.
    ManageEndpointSecret,
    ManageTransformations,
    /// Have messages sent again, and examples.
    CreateAttempts,
    /// Make, change and delete endpoints, their secrets included.
    ManageEndpoint,
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 6] = [
        Capability::ViewBase,
        Capability::ViewEndpointSecret,
        Capability::ManageEndpointSecret,
        Capability::ManageTransformations,
        Capability::CreateAttempts,
        Capability::ManageEndpoint,
    ];

    /// Those of which one is needed to see an endpoint's secret.
    pub const SEE_SECRET: &[Capability] =
        &[Capability::ViewEndpointSecret, Capability::ManageEndpointSecret, Capability::ManageEndpoint];

    /// Those of which one is needed to change it.
    pub const ROTATE_SECRET: &[Capability] = &[Capability::ManageEndpointSecret, Capability::ManageEndpoint];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Capability::ViewBase => "ViewBase",
            Capability::ViewEndpointSecret => "ViewEndpointSecret",
            Capability::ManageEndpointSecret => "ManageEndpointSecret",
            Capability::ManageTransformations => "ManageTransformations",
            Capability::CreateAttempts => "CreateAttempts",
            Capability::ManageEndpoint => "ManageEndpoint",
        }
    }

    /// The capability of a word.
    pub fn from_word(word: &str) -> Option<Capability> {
        Capability::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// A part of the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortalPage {
    /// How many were sent, how many failed, by time.
    Overview,
    Endpoints,
    Messages,
    Deliveries,
    EventTypes,
}

impl PortalPage {
    /// All of them, in the order of the navigation.
    pub const ALL: [PortalPage; 5] = [
        PortalPage::Overview,
        PortalPage::Endpoints,
        PortalPage::Messages,
        PortalPage::Deliveries,
        PortalPage::EventTypes,
    ];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            PortalPage::Overview => "overview",
            PortalPage::Endpoints => "endpoints",
            PortalPage::Messages => "messages",
            PortalPage::Deliveries => "deliveries",
            PortalPage::EventTypes => "event-types",
        }
    }
}

/// What the team decided for one visit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalOptions {
    /// Event types behind other flags are not shown.
    pub feature_flags: Vec<String>,
    /// `None`: all.
    pub capabilities: Option<Vec<Capability>>,
    /// The team's own name of the visit.
    pub session_id: Option<String>,
    /// Until when the visit lasts, in microseconds since 1970.
    pub until: i64,
    /// What is there to see; `None`: everything.
    #[serde(default)]
    pub pages: Option<Vec<PortalPage>>,
    #[serde(default)]
    pub theme: Option<Theme>,
    /// Whether there is a navigation: where the portal is embedded, the page around it may have one.
    #[serde(default = "shown")]
    pub navigation: bool,
}

const fn shown() -> bool {
    true
}

impl PortalOptions {
    /// Everything may be seen and done until then, in microseconds since 1970, and looks as usual.
    pub fn all(until: i64) -> PortalOptions {
        PortalOptions {
            feature_flags: Vec::new(),
            capabilities: None,
            session_id: None,
            until,
            pages: None,
            theme: None,
            navigation: shown(),
        }
    }

    /// Whether the visit has that part of the portal.
    pub fn shows(&self, page: PortalPage) -> bool {
        self.pages.as_ref().is_none_or(|pages| pages.contains(&page))
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// Every rule that is broken, not only the first.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        // They travel in the token.
        wrong.extend(ids::names("featureFlags", &self.feature_flags, limits::FEATURE_FLAGS, limits::NAME));
        let repeated = "must not name anything twice";
        if self.capabilities.as_ref().is_some_and(|list| list.len() > Capability::ALL.len()) {
            wrong.push(Invalid::new("capabilities", repeated));
        }
        if self.pages.as_ref().is_some_and(|list| list.len() > PortalPage::ALL.len()) {
            wrong.push(Invalid::new("pages", repeated));
        }
        if self.capabilities.as_ref().is_some_and(|list| !list.contains(&Capability::ViewBase)) {
            wrong.push(Invalid::new("capabilities", "must contain ViewBase; leave the field out for all of them"));
        }
        if let Some(session) = &self.session_id {
            wrong.extend(ids::session("sessionId", session).err());
        }
        if self.pages.as_ref().is_some_and(Vec::is_empty) {
            wrong.push(Invalid::new("pages", "must name at least one; leave the field out for all of them"));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// Takes away everything that changes something. A secret may be seen only where that was said.
    pub fn make_read_only(&mut self) {
        let views = [Capability::ViewBase, Capability::ViewEndpointSecret];
        let said = self.capabilities.take().unwrap_or_else(|| vec![Capability::ViewBase]);
        self.capabilities = Some(said.into_iter().filter(|one| views.contains(one)).collect());
    }
}

/// A link into the portal, as it is stored: everything but its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalLink {
    pub org: OrgId,
    pub app_id: AppId,
    pub options: PortalOptions,
    /// Until when the link can be used, once.
    pub expires_at: Time,
}

#[cfg(test)]
mod tests {
    use crate::domain::access::portal::*;

    fn options() -> PortalOptions {
        PortalOptions::all(0)
    }

    #[test]
    fn a_word_is_written_and_read_alike() {
        for one in Capability::ALL {
            assert_eq!(Capability::from_word(one.word()), Some(one));
            assert_eq!(serde_json::to_string(&one).unwrap(), format!("{:?}", one.word()));
        }
        assert_eq!(Capability::from_word("viewbase"), None);
    }

    #[test]
    fn every_broken_rule_is_named() {
        assert!(options().check().is_ok());
        let wrong = PortalOptions {
            feature_flags: vec!["a b".into(); 51],
            capabilities: Some(vec![Capability::ManageEndpoint]),
            session_id: Some(String::new()),
            pages: Some(vec![]),
            ..options()
        };
        let fields: Vec<String> = wrong.check().unwrap_err().into_iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["featureFlags", "capabilities", "sessionId", "pages"]);
    }

    #[test]
    fn what_an_older_release_stored_means_what_it_meant() {
        let old = r#"{"feature_flags":["beta"],"capabilities":["ViewBase"],"session_id":null,"until":7}"#;
        let read: PortalOptions = serde_json::from_str(old).unwrap();
        let capabilities = Some(vec![Capability::ViewBase]);
        assert_eq!(read, PortalOptions { feature_flags: vec!["beta".into()], capabilities, ..PortalOptions::all(7) });
        assert!(PortalPage::ALL.into_iter().all(|page| read.shows(page)));
        for page in PortalPage::ALL {
            assert_eq!(serde_json::to_string(&page).unwrap(), format!("{:?}", page.word()));
        }
        let theme = Some(Theme { accent: Some("#0b6e4f".parse().unwrap()), ..Theme::default() });
        let new = PortalOptions { theme, navigation: false, pages: Some(vec![PortalPage::EventTypes]), ..read };
        let text = serde_json::to_string(&new).unwrap();
        assert_eq!(serde_json::from_str::<PortalOptions>(&text).unwrap(), new);
    }

    #[test]
    fn read_only_leaves_nothing_that_changes_something() {
        let read_only = |capabilities| {
            let mut options = PortalOptions { capabilities, ..options() };
            options.make_read_only();
            options.capabilities.unwrap()
        };
        assert_eq!(read_only(None), [Capability::ViewBase]);
        let all = Capability::ALL.to_vec();
        assert_eq!(read_only(Some(all)), [Capability::ViewBase, Capability::ViewEndpointSecret]);
    }
}
