//! `sendoff token`: prints a JWT bearer token for the REST API, signed with the configured secret and without the
//! store. Fails if only a public key is configured.

use std::time::Duration;

use super::{CliError, parse_expiry, print_result};
use crate::api::authn::jwt::{MintError, Tokens};
use crate::app;
use crate::config::Config;
use crate::domain::time::Clock;
use crate::domain::{AppId, OrgId};

/// Ten years: a token in a product's configuration should not expire by surprise.
const DEFAULT_EXPIRY: &str = "3650d";

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Organization, such as org_default [org_default]
    #[arg(long, value_name = "ORG")]
    org: Option<OrgId>,
    /// Limit the token to one application (app_…)
    #[arg(long, value_name = "APP")]
    app: Option<AppId>,
    /// Expire after this time
    #[arg(long, value_name = "SPAN", default_value = DEFAULT_EXPIRY, value_parser = parse_expiry)]
    expires: Duration,
}

pub(super) fn run(config: &Config, options: &Options) -> Result<(), CliError> {
    let org = options.org.clone().unwrap_or_else(OrgId::default_org);
    print_result(&mint(config, &org, options.app, options.expires)?);
    Ok(())
}

/// Signs a token with the configured secret.
pub(super) fn mint(config: &Config, org: &OrgId, app: Option<AppId>, ttl: Duration) -> Result<String, CliError> {
    let tokens = Tokens::with_key(&app::existing_token_key(&config.keys, &config.store.location)?, None);
    let now = Clock.now();
    let minted = match app {
        Some(app) => tokens.mint_app(org, app, now, ttl),
        None => tokens.mint_org(org, now, ttl),
    };
    minted.map_err(|error| match error {
        MintError::VerifiesOnly(_) => CliError::Failed(format!("{error} (use `sendoff key create`)")),
        MintError::Failed => CliError::Failed(error.to_string()),
    })
}
