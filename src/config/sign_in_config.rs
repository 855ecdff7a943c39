//! Settings of the sign-in to the dashboard.

use url::{Host, Url};
use zeroize::Zeroizing;

use super::parsers::{boolean, span_within};
use super::{ConfigError, Settings};
use crate::domain::access::oidc::{OidcOptions, RoleMap};

const LABEL: usize = 40;

/// How operators sign in to the dashboard.
#[derive(Debug)]
pub struct SignInConfig {
    /// `None`: no sign-in through an identity provider.
    pub oidc: Option<OidcOptions>,
    /// Accounts with a password need a second factor.
    pub require_totp: bool,
}

impl SignInConfig {
    pub(super) fn new(settings: &Settings) -> Result<SignInConfig, ConfigError> {
        Ok(SignInConfig { oidc: oidc(settings)?, require_totp: settings.parse("require_totp", boolean)? })
    }
}

/// The identity provider; `None`: none is configured. All values are checked in either case.
fn oidc(settings: &Settings) -> Result<Option<OidcOptions>, ConfigError> {
    let issuer = settings.parse_optional("oidc_issuer", issuer)?;
    let client_id = settings.parse_optional("oidc_client_id", word)?;
    let secret = |text: &str| Ok(Zeroizing::new(text.to_owned()));
    let client_secret = settings.parse_optional("oidc_client_secret", secret)?;
    let roles = settings.parse_optional("oidc_roles", RoleMap::parse)?.filter(|roles| !roles.is_empty());
    let scopes = settings.parse("oidc_scopes", words)?;
    let groups_claim = settings.parse("oidc_groups_claim", word)?;
    let domains = settings.parse("oidc_domains", domains)?;
    let label = settings.parse("oidc_label", label)?;
    let session = settings.parse("oidc_session", span_within(5 * super::MINUTE, 7 * super::DAY))?;
    let Some(issuer) = issuer else { return Ok(None) };
    let needed = |name| settings.error(name, "is missing: SENDOFF_OIDC_ISSUER needs it");
    Ok(Some(OidcOptions {
        issuer,
        client_id: client_id.ok_or_else(|| needed("oidc_client_id"))?,
        client_secret: client_secret.ok_or_else(|| needed("oidc_client_secret"))?,
        roles: roles.ok_or_else(|| needed("oidc_roles"))?,
        scopes,
        groups_claim,
        domains,
        label,
        session,
    }))
}

/// An https URL; http for loopback hosts only. Not normalized.
fn issuer(text: &str) -> Result<String, String> {
    let url: Url = text.parse().map_err(|_| "is not a URL".to_owned())?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        _ => return Err("is not an https URL".to_owned()),
    }
    match url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        true => Err("contains a user, a query or a fragment".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn word(text: &str) -> Result<String, String> {
    match text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        true => Err("contains white space".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn words(text: &str) -> Result<Vec<String>, String> {
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn domains(text: &str) -> Result<Vec<String>, String> {
    let domain = |item: &str| match Host::parse(item) {
        Ok(Host::Domain(name)) if name.contains('.') => Ok(name),
        _ => Err(format!("contains {item:?}, which is not a domain")),
    };
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(domain).collect()
}

fn label(text: &str) -> Result<String, String> {
    match text.chars().count() > LABEL || text.chars().any(char::is_control) {
        true => Err("is too long, or more than one line".to_owned()),
        false => Ok(text.to_owned()),
    }
}
