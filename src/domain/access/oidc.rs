//! Sign-in through an identity provider (OpenID Connect): the options, a person's identity, and the mapping from groups
//! to roles.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::domain::access::operator::{OperatorRole, parse_name};

/// The group that matches everyone.
pub const EVERYBODY: &str = "*";
/// Maximum groups of a person that are considered.
const GROUPS: usize = 1_000;

/// A person at the provider. Issuer and subject identify the account; a name can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcIdentity {
    pub issuer: String,
    pub subject: String,
    /// The name of a new account, in lower case.
    pub name: String,
    pub role: OperatorRole,
}

/// The role of each group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleMap(Vec<(String, OperatorRole)>);

impl RoleMap {
    /// Parses `group=role` pairs, separated by commas; the group `*` matches everyone.
    ///
    /// # Errors
    /// The rest of a sentence about the text.
    pub fn parse(text: &str) -> Result<RoleMap, String> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (group, role) = pair.rsplit_once('=').ok_or_else(|| format!("contains {pair:?}, which has no role"))?;
            let role = OperatorRole::from_word(role.trim())
                .ok_or_else(|| format!("contains {role:?}, which is not viewer, operator or admin"))?;
            match group.trim() {
                "" => Err(format!("contains {pair:?}, which has no group")),
                group => Ok((group.to_owned(), role)),
            }
        };
        pairs.map(pair).collect::<Result<Vec<_>, _>>().map(RoleMap)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest role of these groups; `None`: no access.
    pub fn role(&self, groups: &[String]) -> Option<OperatorRole> {
        let of = |(group, role): &(String, OperatorRole)| {
            let member = group == EVERYBODY || groups.iter().take(GROUPS).any(|one| one == group);
            member.then_some(*role)
        };
        self.0.iter().filter_map(of).max()
    }
}

/// The settings of the sign-in through an identity provider.
#[derive(Clone)]
pub struct OidcOptions {
    /// Exactly as configured: with some providers it ends in a slash.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Zeroizing<String>,
    pub scopes: Vec<String>,
    /// The claim of the ID token with the groups.
    pub groups_claim: String,
    pub roles: RoleMap,
    /// Allowed domains of verified e-mail addresses; empty: all.
    pub domains: Vec<String>,
    /// The label of the button.
    pub label: String,
    /// The lifetime of a session.
    pub session: Duration,
}

impl std::fmt::Debug for OidcOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OidcOptions(client {} at {}, redacted)", self.client_id, self.issuer)
    }
}

/// The name of a new account: the e-mail address if the provider verified it, otherwise the preferred user name, or the
/// subject.
pub fn account_name(verified_email: Option<&str>, preferred: Option<&str>, subject: &str) -> Option<String> {
    [verified_email, preferred, Some(subject)].into_iter().flatten().find_map(|name| parse_name(name).ok())
}

/// Whether a verified e-mail address is in one of the domains; without domains, all are allowed.
pub fn is_allowed_domain(domains: &[String], verified_email: Option<&str>) -> bool {
    let domain = verified_email.and_then(|email| email.rsplit_once('@')).map(|(_, domain)| domain.to_lowercase());
    domains.is_empty() || domain.is_some_and(|domain| domains.contains(&domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_role_of_the_groups_counts() {
        let map = RoleMap::parse("ops=operator, cn=admins,ou=x=admin").unwrap_err();
        assert!(map.contains("which is not viewer"), "{map}");
        let map = RoleMap::parse("ops=operator,admins=admin, a=b=viewer").unwrap();
        let role = |groups: &[&str]| map.role(&groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>());
        assert_eq!(role(&["ops", "admins"]), Some(OperatorRole::Admin));
        assert_eq!(role(&["a=b"]), Some(OperatorRole::Viewer));
        assert_eq!((role(&["Admins"]), role(&[])), (None, None));
        assert_eq!(RoleMap::parse("*=viewer").unwrap().role(&[]), Some(OperatorRole::Viewer));
        for bad in ["ops", "ops=root", "=admin"] {
            assert!(RoleMap::parse(bad).is_err(), "{bad}");
        }
        assert!(RoleMap::parse("").unwrap().is_empty());
    }

    #[test]
    fn only_verified_addresses_count() {
        assert_eq!(account_name(Some("Anna@Example.com"), Some("anna"), "1").as_deref(), Some("anna@example.com"));
        assert_eq!(account_name(None, Some("anna"), "1").as_deref(), Some("anna"));
        assert_eq!(account_name(None, Some("\n"), "1").as_deref(), Some("1"));
        let domains = ["example.com".to_owned()];
        assert!(is_allowed_domain(&domains, Some("a@Example.com")) && is_allowed_domain(&[], None));
        for other in [None, Some("a@example.com.evil"), Some("a@sub.example.com"), Some("example.com")] {
            assert!(!is_allowed_domain(&domains, other), "{other:?}");
        }
    }
}
