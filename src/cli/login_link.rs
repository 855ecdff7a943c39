//! `sendoff login-link`: prints a one-time link that signs an operator in. Works beside a running `serve`, on its
//! database.

use super::{CliError, print_result};
use crate::app::{self, AppError};
use crate::config::Config;
use crate::dashboard::sign_in::login;
use crate::domain::OrgId;
use crate::domain::time::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Organization to show first
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
}

pub(super) async fn run(config: Config, options: Options) -> Result<(), CliError> {
    let opened = app::open_existing(&config).await?;
    let address = config.http.listen;
    let public_url = config.http.public_url(address).map_err(|error| AppError::Start(format!("{address}: {error}")))?;
    print_result(&login::new_link(&opened.store, &options.org, &public_url, Clock.now()).await?);
    Ok(())
}
