//! `sendoff event-types`: imports event types from an OpenAPI document. Works beside a running `serve`, on its
//! database.

use std::io::Read as _;
use std::path::PathBuf;

use super::{CliError, print_result, print_stderr};
use crate::app;
use crate::config::Config;
use crate::domain::access::audit::{Actor, ActorKind};
use crate::domain::catalog::openapi_import;
use crate::domain::time::Clock;
use crate::domain::{Invalid, OrgId};
use crate::store::Tenant;
use crate::store::catalog::event_type_import::{self, ImportAction, ImportOptions};

#[derive(Debug, clap::Subcommand)]
pub(super) enum EventTypesCommand {
    /// Print what an OpenAPI 3.1 document changes in the catalog, and change it with --apply
    Import(ImportFile),
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportFile {
    /// JSON or YAML file with webhooks, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Make the changes
    #[arg(long)]
    apply: bool,
    /// Archive event types that the document does not have
    #[arg(long)]
    replace_all: bool,
    /// Add changed schemas as new versions
    #[arg(long)]
    new_versions: bool,
    /// Organization of the catalog
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
}

pub(super) async fn run(config: Config, command: EventTypesCommand) -> Result<(), CliError> {
    let EventTypesCommand::Import(options) = command;
    let refused = |wrong: Vec<Invalid>| {
        wrong.iter().for_each(|one| print_stderr(&one.reason));
        CliError::Failed("the document cannot be imported".to_owned())
    };
    let specs = openapi_import::parse(&read(&options)?).map_err(refused)?;
    let who = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let actor = Actor::new(ActorKind::Command, who.unwrap_or_else(|| "somebody".to_owned()));
    let store = app::open_existing(&config).await?.store.by(actor);
    let tenant = Tenant::org(options.org);
    let how = ImportOptions { replace_all: options.replace_all, new_versions: options.new_versions };
    let changes = event_type_import::plan(&store, &tenant, specs, how).await?.map_err(refused)?;
    let mut lines = Vec::new();
    for change in &changes {
        let action = match change.action {
            ImportAction::Create => "create",
            ImportAction::Update => "change",
            ImportAction::Archive => "archive",
            ImportAction::Keep => continue,
        };
        let fields = if change.fields.is_empty() { String::new() } else { format!(": {}", change.fields.join(", ")) };
        lines.push(format!("{action} {}{fields}", change.spec.name));
    }
    let kept = changes.len() - lines.len();
    let end = match options.apply {
        true => {
            let applied = event_type_import::apply(&store, &tenant, &changes, Clock.now()).await?;
            format!("{applied} changed, {kept} unchanged")
        }
        false => format!("{} to change, {kept} unchanged; add --apply to make these changes", lines.len()),
    };
    lines.push(end);
    print_result(&lines.join("\n"));
    Ok(())
}

fn read(options: &ImportFile) -> Result<String, CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("can't read {}: {error}", options.file.display()));
    let most = openapi_import::DOCUMENT_BYTES as u64 + 1;
    let mut text = String::new();
    if options.file.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(&options.file).map_err(failed)?;
        file.take(most).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}
