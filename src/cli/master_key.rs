//! `sendoff master-key`: changes the key that encrypts endpoint secrets and headers. Works beside a running `serve`, on
//! its database.

use std::time::Duration;

use super::{CliError, print_result};
use crate::app;
use crate::config::Config;
use crate::store::maintenance::reseal::Reseal;

/// Pause between steps, for other writers.
const STEP_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, clap::Subcommand)]
pub(super) enum MasterKeyCommand {
    /// Re-encrypt with SENDOFF_MASTER_KEY everything that SENDOFF_MASTER_KEY_OTHER encrypted
    Rotate,
}

pub(super) async fn run(config: Config, command: MasterKeyCommand) -> Result<(), CliError> {
    let MasterKeyCommand::Rotate = command;
    if config.keys.other.is_none() {
        let why = "SENDOFF_MASTER_KEY_OTHER is not set: set it to the old key, and SENDOFF_MASTER_KEY to the new one";
        return Err(CliError::Usage(why.to_owned()));
    }
    let opened = app::open_existing(&config).await?;
    let (mut at, mut rows, mut unreadable) = (Reseal::default(), 0, 0);
    while at != Reseal::Done {
        let done = opened.store.reseal(at).await?;
        (at, rows, unreadable) = (done.next, rows + done.rows, unreadable + done.unreadable);
        tokio::time::sleep(STEP_PAUSE).await;
    }
    print_result(&format!(
        "Re-encrypted {rows} secrets and headers. Remove SENDOFF_MASTER_KEY_OTHER once no process encrypts with it."
    ));
    if unreadable > 0 {
        return Err(CliError::Failed(format!(
            "{unreadable} secrets or headers match neither key and were left unchanged"
        )));
    }
    Ok(())
}
