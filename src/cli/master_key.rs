//! `sendoff master-key`: changes the key that seals the endpoints' secrets and headers. Works beside a running `serve`, on its database.

use std::time::Duration;

use super::{CliError, print_result};
use crate::app;
use crate::config::Config;
use crate::store::maintenance::reseal::Reseal;

/// The pause between two steps, for other writers.
const STEP_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, clap::Subcommand)]
pub(super) enum MasterKeyCommand {
    /// Seal again, under SENDOFF_MASTER_KEY, all that SENDOFF_MASTER_KEY_OTHER has sealed
    Rotate,
}

pub(super) async fn run(config: Config, command: MasterKeyCommand) -> Result<(), CliError> {
    let MasterKeyCommand::Rotate = command;
    if config.keys.other.is_none() {
        let why = "SENDOFF_MASTER_KEY_OTHER is not set: give the new key as SENDOFF_MASTER_KEY and the old one there";
        return Err(CliError::Usage(why.to_owned()));
    }
    let opened = app::visit(&config).await?;
    let (mut at, mut rows, mut unreadable) = (Reseal::default(), 0, 0);
    while at != Reseal::Done {
        let done = opened.store.reseal(at).await?;
        (at, rows, unreadable) = (done.next, rows + done.rows, unreadable + done.unreadable);
        tokio::time::sleep(STEP_PAUSE).await;
    }
    print_result(&format!(
        "{rows} secrets and headers were sealed again. SENDOFF_MASTER_KEY_OTHER can go once no process seals with it."
    ));
    if unreadable > 0 {
        return Err(CliError::Failed(format!(
            "{unreadable} secrets or headers were sealed with neither key, and are left as they are"
        )));
    }
    Ok(())
}
