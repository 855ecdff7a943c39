//! The **portal** shows one application to a customer. The team decides what the customer can see and do there.
//!
//! * A [`Capability`] is a permission. A token or link without capabilities grants all of them.
//! * A [`PortalPage`] is a section that the team can hide.
//! * [`PortalOptions`] are the settings of one portal session; a **portal link** passes them to the session that its
//!   one-time code opens.

use serde::{Deserialize, Serialize};

use crate::domain::access::theme::Theme;
use crate::domain::{AppId, Invalid, OrgId, Time, ids, limits};

/// A permission of a customer. The words are those of the REST dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Capability {
    /// Read everything except endpoint secrets. Every session has it.
    ViewBase,
    ViewEndpointSecret,
    /// Rotate and reveal secrets.
    ManageEndpointSecret,
    ManageTransformations,
    /// Resend messages and send test events.
    CreateAttempts,
    /// Create, change and delete endpoints, including their secrets.
    ManageEndpoint,
}

impl Capability {
    /// All capabilities.
    pub const ALL: [Capability; 6] = [
        Capability::ViewBase,
        Capability::ViewEndpointSecret,
        Capability::ManageEndpointSecret,
        Capability::ManageTransformations,
        Capability::CreateAttempts,
        Capability::ManageEndpoint,
    ];

    /// Any one of these allows revealing a secret.
    pub const SEE_SECRET: &[Capability] =
        &[Capability::ViewEndpointSecret, Capability::ManageEndpointSecret, Capability::ManageEndpoint];

    /// Any one of these allows rotating a secret.
    pub const ROTATE_SECRET: &[Capability] = &[Capability::ManageEndpointSecret, Capability::ManageEndpoint];

    /// The word of the REST dialect.
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

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<Capability> {
        Capability::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// A section of the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortalPage {
    /// Charts of successful and failed attempts.
    Overview,
    Endpoints,
    Messages,
    Deliveries,
    EventTypes,
}

impl PortalPage {
    /// All pages, in the order of the navigation.
    pub const ALL: [PortalPage; 5] = [
        PortalPage::Overview,
        PortalPage::Endpoints,
        PortalPage::Messages,
        PortalPage::Deliveries,
        PortalPage::EventTypes,
    ];

    /// The word in the REST API.
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

/// The settings of one portal session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalOptions {
    /// Event types that require other flags are hidden.
    pub feature_flags: Vec<String>,
    /// `None`: all.
    pub capabilities: Option<Vec<Capability>>,
    /// The team's own id for the session.
    pub session_id: Option<String>,
    /// The end of the session, in microseconds since 1970.
    pub until: i64,
    /// The visible pages; `None`: all.
    #[serde(default)]
    pub pages: Option<Vec<PortalPage>>,
    #[serde(default)]
    pub theme: Option<Theme>,
    /// Whether to show the navigation. A page that embeds the portal may have its own.
    #[serde(default = "shown")]
    pub navigation: bool,
}

const fn shown() -> bool {
    true
}

impl PortalOptions {
    /// All capabilities and pages with the default theme, until a time in microseconds since 1970.
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

    /// Whether the session shows `page`.
    pub fn shows(&self, page: PortalPage) -> bool {
        self.pages.as_ref().is_none_or(|pages| pages.contains(&page))
    }

    /// Checks the rules that the types do not enforce.
    ///
    /// # Errors
    /// Every broken rule, not only the first.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        wrong.extend(ids::names("featureFlags", &self.feature_flags, limits::FEATURE_FLAGS, limits::NAME));
        let repeated = "must not contain duplicates";
        if self.capabilities.as_ref().is_some_and(|list| list.len() > Capability::ALL.len()) {
            wrong.push(Invalid::new("capabilities", repeated));
        }
        if self.pages.as_ref().is_some_and(|list| list.len() > PortalPage::ALL.len()) {
            wrong.push(Invalid::new("pages", repeated));
        }
        if self.capabilities.as_ref().is_some_and(|list| !list.contains(&Capability::ViewBase)) {
            wrong.push(Invalid::new("capabilities", "must contain ViewBase; omit the field to grant all"));
        }
        if let Some(session) = &self.session_id {
            wrong.extend(ids::session("sessionId", session).err());
        }
        if self.pages.as_ref().is_some_and(Vec::is_empty) {
            wrong.push(Invalid::new("pages", "must name at least one; omit the field to show all"));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// Removes all capabilities that change something. Revealing secrets stays only if it was granted explicitly.
    pub fn make_read_only(&mut self) {
        let views = [Capability::ViewBase, Capability::ViewEndpointSecret];
        let said = self.capabilities.take().unwrap_or_else(|| vec![Capability::ViewBase]);
        self.capabilities = Some(said.into_iter().filter(|one| views.contains(one)).collect());
    }
}

/// A stored portal link, without its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalLink {
    pub org: OrgId,
    pub app_id: AppId,
    pub options: PortalOptions,
    /// The end of the link's validity. It can be used once.
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
    fn options_stored_by_an_older_release_keep_their_meaning() {
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
