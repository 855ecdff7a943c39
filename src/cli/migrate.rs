//! `sendoff migrate`: updates the schema to this version, as `serve` does at startup.

use super::{CliError, print_result};
use crate::app;
use crate::config::Config;

pub(super) async fn run(config: Config) -> Result<(), CliError> {
    let opened = app::open(&config).await?;
    opened.store.ready().await?;
    print_result(&format!("The schema is up to date ({}).", opened.store.kind()));
    Ok(())
}
