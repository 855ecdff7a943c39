//! `sendoff key`: creates, lists and revokes an organization's API keys. Works beside a running `serve`, on its
//! database.

use std::time::Duration;

use super::{CliError, parse_expiry, print_result, print_stderr};
use crate::api::authn::authenticator::MAX_AGE;
use crate::app;
use crate::config::Config;
use crate::domain::access::api_key;
use crate::domain::access::api_key::{ApiKey, KeyScope, KeyScopes, KeySpec};
use crate::domain::access::audit::{Actor, ActorKind};
use crate::domain::time::Clock;
use crate::domain::{KeyId, OrgId, Time};
use crate::store::{Order, PageRequest, Store, Tenant};

/// Keys read per query.
const PAGE_SIZE: usize = 250;

#[derive(Debug, clap::Subcommand)]
pub(super) enum KeyCommand {
    /// Print a new API key, which is never shown again
    Create(CreateKey),
    /// List all API keys, including revoked and expired ones
    List(ListKeys),
    /// Revoke an API key permanently
    Revoke(RevokeKey),
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateKey {
    /// Label for the key, such as billing or ci
    #[arg(value_name = "NAME")]
    name: String,
    /// Organization whose applications the key can reach
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
    /// Limit the key to these scopes: read, send (create messages) or write (everything) [write]
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', value_parser = parse_scope)]
    scopes: Vec<KeyScope>,
    /// Expire after this time, such as 90d [never]
    #[arg(long, value_name = "SPAN", value_parser = parse_expiry)]
    expires: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListKeys {
    /// Organization of the keys
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
}

#[derive(Debug, clap::Args)]
pub(super) struct RevokeKey {
    /// Key id (key_…), as printed by `sendoff key list`
    #[arg(value_name = "ID")]
    id: KeyId,
    /// Organization of the key
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
}

fn parse_scope(text: &str) -> Result<KeyScope, String> {
    KeyScope::from_word(text).ok_or_else(|| "expected read, send or write".to_owned())
}

pub(super) async fn run(config: Config, command: KeyCommand) -> Result<(), CliError> {
    let who = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let actor = Actor::new(ActorKind::Command, who.unwrap_or_else(|| "somebody".to_owned()));
    let store = app::open_existing(&config).await?.store.by(actor);
    match command {
        KeyCommand::Create(options) => create(&store, options, Clock.now()).await,
        KeyCommand::List(options) => list(&store, &Tenant::org(options.org), Clock.now()).await,
        KeyCommand::Revoke(options) => revoke(&store, options, Clock.now()).await,
    }
}

async fn create(store: &Store, options: CreateKey, now: Time) -> Result<(), CliError> {
    let scopes = match options.scopes.is_empty() {
        true => KeyScopes::EVERYTHING,
        false => KeyScopes::of(options.scopes),
    };
    let spec = KeySpec { name: options.name, scopes, expires_at: options.expires.map(|span| now.plus(span)) };
    let (key, text) = ApiKey::make(options.org, spec, now).map_err(|wrong| {
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        CliError::Usage(wrong.join("; "))
    })?;
    store.add_api_key(&key, &api_key::hash(&text)).await?;
    print_result(&text);
    print_stderr(&format!("created {} for {} ({scopes}); it is not shown again", key.id, key.org));
    Ok(())
}

async fn list(store: &Store, tenant: &Tenant, now: Time) -> Result<(), CliError> {
    let mut lines = vec![["ID", "KEY", "NAME", "SCOPES", "CREATED", "LAST USED", "STATE"].map(str::to_owned)];
    let mut request = PageRequest::first(PAGE_SIZE, Order::Ascending);
    loop {
        let page = store.api_keys(tenant, &request).await?;
        lines.extend(page.data.iter().map(|key| row(key, now)));
        request.after = page.data.last().map(|last| last.id);
        if !page.more {
            break;
        }
    }
    print_result(&table(&lines));
    Ok(())
}

fn row(key: &ApiKey, now: Time) -> [String; 7] {
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", to_second(at)),
        (None, Some(at)) if now >= at => format!("expired {}", to_second(at)),
        (None, Some(at)) => format!("active until {}", to_second(at)),
        (None, None) => "active".to_owned(),
    };
    [
        key.id.to_string(),
        format!("{}…{}", api_key::KEY_PREFIX, key.hint),
        key.name.clone(),
        key.scopes.to_string(),
        to_second(key.created_at),
        key.last_used_at.map_or("never".to_owned(), to_second),
        state,
    ]
}

/// Formats a time to the second.
fn to_second(at: Time) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// Aligns columns to their widest cell.
fn table<const N: usize>(lines: &[[String; N]]) -> String {
    let wide = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(wide);
    let written = lines.iter().map(|line| {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    });
    written.collect::<Vec<_>>().join("\n")
}

async fn revoke(store: &Store, options: RevokeKey, now: Time) -> Result<(), CliError> {
    let RevokeKey { id, org } = options;
    if !store.revoke_api_key(&Tenant::org(org.clone()), id, now).await? {
        return Err(CliError::Failed(format!("{org} has no API key {id}; use --org for another organization")));
    }
    print_result(&format!("{id} is revoked; every process rejects it within {} s.", MAX_AGE.as_secs()));
    Ok(())
}
