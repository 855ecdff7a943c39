//! An **operator** runs an installation and signs in to the dashboard with a name and a password. Anyone with shell
//! access can create a one-time sign-in link instead.

use crate::domain::{Invalid, OperatorId, OrgId, Time};

/// Maximum characters of a name.
const NAME: usize = 256;
/// Maximum organizations of one account.
const ORGS: usize = 100;

/// The rights of an operator. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorRole {
    /// Reads everything except secrets.
    Viewer,
    /// Sends, resends, and changes applications, endpoints and event types.
    Operator,
    /// Everything, including API keys. Admins who see all organizations also manage accounts.
    Admin,
}

impl OperatorRole {
    /// All roles, from the lowest to the highest.
    pub const ALL: [OperatorRole; 3] = [OperatorRole::Viewer, OperatorRole::Operator, OperatorRole::Admin];

    /// The word in the store, in forms and in settings.
    pub const fn word(self) -> &'static str {
        match self {
            OperatorRole::Viewer => "viewer",
            OperatorRole::Operator => "operator",
            OperatorRole::Admin => "admin",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<OperatorRole> {
        OperatorRole::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// An operator's account, without the password hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    pub id: OperatorId,
    /// The sign-in name, in lower case.
    pub name: String,
    pub role: OperatorRole,
    /// The organizations the operator can see; `None`: all.
    pub orgs: Option<Vec<OrgId>>,
    pub created_at: Time,
    /// The time of the last sign-in.
    pub seen_at: Option<Time>,
    /// The account signs in with a password.
    pub has_password: bool,
    /// A second factor is needed with the password.
    pub second_factor: bool,
}

impl Operator {
    /// A new account.
    ///
    /// # Errors
    /// An invalid name, no organizations, or too many.
    pub fn new(name: &str, role: OperatorRole, orgs: Option<Vec<OrgId>>, now: Time) -> Result<Operator, Vec<Invalid>> {
        let mut wrong = Vec::new();
        let name = parse_name(name).map_err(|one| wrong.push(one)).unwrap_or_default();
        wrong.extend(check_orgs(orgs.as_deref()).err());
        match wrong.is_empty() {
            true => Ok(Operator {
                id: OperatorId::new(now),
                name,
                role,
                orgs,
                created_at: now,
                seen_at: None,
                has_password: true,
                second_factor: false,
            }),
            false => Err(wrong),
        }
    }

    /// Whether the operator can see an organization.
    pub fn may_see(&self, org: &OrgId) -> bool {
        self.orgs.as_ref().is_none_or(|orgs| orgs.contains(org))
    }

    /// Whether the operator manages accounts.
    pub fn manages_accounts(&self) -> bool {
        self.role == OperatorRole::Admin && self.orgs.is_none()
    }

    /// The organization shown after sign-in.
    pub fn home(&self) -> OrgId {
        self.orgs.as_ref().and_then(|orgs| orgs.first().cloned()).unwrap_or_else(OrgId::default_org)
    }
}

/// Checks the number of an account's organizations.
///
/// # Errors
/// None, or too many.
pub fn check_orgs(orgs: Option<&[OrgId]>) -> Result<(), Invalid> {
    match orgs {
        Some(orgs) if orgs.is_empty() || orgs.len() > ORGS => {
            Err(Invalid::new("orgs", format!("must name 1 to {ORGS} organizations, or all")))
        }
        _ => Ok(()),
    }
}

/// Normalizes a typed name: trimmed, lower case.
///
/// # Errors
/// The name is empty, longer than 256 characters, or more than one line.
pub fn parse_name(typed: &str) -> Result<String, Invalid> {
    let name = typed.trim().to_lowercase();
    if name.is_empty() || name.chars().count() > NAME {
        return Err(Invalid::new("name", format!("must have 1 to {NAME} characters")));
    }
    match name.chars().any(char::is_control) {
        true => Err(Invalid::new("name", "must be one line")),
        false => Ok(name),
    }
}

/// Parses organization ids separated by white space or commas.
///
/// # Errors
/// An id that is not valid.
pub fn parse_orgs(typed: &str) -> Result<Vec<OrgId>, Invalid> {
    let words = typed.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let mut orgs = Vec::new();
    for word in words {
        let org: OrgId = word.parse().map_err(|_| {
            Invalid::new("orgs", "an organization is org_ and 1 to 60 letters and digits, such as org_default")
        })?;
        if !orgs.contains(&org) {
            orgs.push(org);
        }
    }
    Ok(orgs)
}

#[cfg(test)]
mod tests {
    use crate::domain::access::operator::*;

    #[test]
    fn a_name_is_one_line_and_the_same_in_capitals() {
        assert_eq!(parse_name("  Änne@Example.com ").unwrap(), "änne@example.com");
        for bad in ["", "  ", "a\nb", "a\0b", &"x".repeat(257)] {
            assert_eq!(parse_name(bad).unwrap_err().field, "name", "{bad:?}");
        }
    }

    #[test]
    fn a_role_includes_those_before_it() {
        assert!(OperatorRole::ALL.is_sorted());
        assert!(OperatorRole::ALL.into_iter().all(|role| OperatorRole::from_word(role.word()) == Some(role)));
        assert_eq!(OperatorRole::from_word("root"), None);
    }

    #[test]
    fn an_account_sees_what_it_names_or_everything() {
        let org = |text: &str| text.parse::<OrgId>().unwrap();
        assert_eq!(parse_orgs("org_b, org_a\norg_b").unwrap(), [org("org_b"), org("org_a")]);
        assert!(parse_orgs("org_a everything").is_err());
        let some =
            Operator::new("anna", OperatorRole::Viewer, Some(vec![org("org_b"), org("org_a")]), Time::ZERO).unwrap();
        assert!(some.may_see(&org("org_a")) && !some.may_see(&OrgId::default_org()));
        assert_eq!(some.home(), org("org_b"));
        let all = Operator::new("bert", OperatorRole::Admin, None, Time::ZERO).unwrap();
        assert!(all.manages_accounts() && !some.manages_accounts());
        assert!(all.may_see(&org("org_a")) && all.home() == OrgId::default_org());
        let wrong = Operator::new("", OperatorRole::Admin, Some(Vec::new()), Time::ZERO).unwrap_err();
        assert_eq!(wrong.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(), ["name", "orgs"]);
    }
}
