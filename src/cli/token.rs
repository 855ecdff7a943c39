//! `sendoff token`: one line, a bearer token for the REST API. It is a JWT: whoever has the secret makes one, the store is not asked.
//! Where only a public key is configured there is no secret, and none is made.

use std::time::Duration;

use super::{CliError, print_result};
use crate::api::authn::jwt::{MintError, Tokens};
use crate::app;
use crate::config::{Config, values};
use crate::domain::time::Clock;
use crate::domain::{AppId, OrgId};

/// Ten years: what an operator puts into a product's environment should not run out by itself.
const DEFAULT_EXPIRY: &str = "3650d";

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The organization, `org_` and letters and digits [org_default]
    #[arg(long, value_name = "ORG")]
    org: Option<OrgId>,
    /// One application (app_…): a token that sees nothing else
    #[arg(long, value_name = "APP")]
    app: Option<AppId>,
    /// How long it is good
    #[arg(long, value_name = "SPAN", default_value = DEFAULT_EXPIRY, value_parser = expiry)]
    expires: Duration,
}

fn expiry(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_secs(36_500 * 86_400);
    let read = values::span_within(Duration::from_secs(1), MOST);
    read(text).map_err(|what| format!("{what}; expected 1s to 36500d, such as 90d"))
}

pub(super) fn run(config: &Config, options: &Options) -> Result<(), CliError> {
    let org = options.org.clone().unwrap_or_else(OrgId::default_org);
    print_result(&mint(config, &org, options.app, options.expires)?);
    Ok(())
}

/// A token signed with the configured secret.
pub(super) fn mint(config: &Config, org: &OrgId, app: Option<AppId>, ttl: Duration) -> Result<String, CliError> {
    let tokens = Tokens::under(&app::known_token_key(&config.keys, &config.store.location)?);
    let now = Clock.now();
    let minted = match app {
        Some(app) => tokens.mint_app(org, app, now, ttl),
        None => tokens.mint_org(org, now, ttl),
    };
    minted.map_err(|error| match error {
        MintError::VerifiesOnly(_) => CliError::Failed(format!("{error} (`sendoff key create` makes one)")),
        MintError::Failed => CliError::Failed(error.to_string()),
    })
}
