//! `sendoff demo`.
use super::CliError;
use crate::config::Settings;
pub(super) async fn run(_settings: Settings) -> Result<(), CliError> {
    Ok(())
}
