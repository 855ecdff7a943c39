//! `sendoff verify`: verifies a signature as a receiver would, to debug a receiver that rejects one.

use std::io::Read;
use std::time::Duration;

use super::{CliError, print_result};
use crate::config::parsers;
use crate::domain::signing::signature::{SignatureHeaders, Verifier};
use crate::domain::time::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Endpoint secret (whsec_…) or public key (whpk_…)
    #[arg(long, value_name = "SECRET")]
    secret: String,
    /// Value of the webhook-id header
    #[arg(long, value_name = "ID")]
    id: String,
    /// Value of the webhook-timestamp header
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    timestamp: String,
    /// Value of the webhook-signature header
    #[arg(long, value_name = "SIGNATURES")]
    signature: String,
    /// Reject timestamps further than this from now
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = span)]
    tolerance: Duration,
}

fn span(text: &str) -> Result<Duration, String> {
    parsers::span(text).map_err(|what| format!("{what}; expected a duration such as 5m"))
}

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    let verifier = Verifier::parse("--secret", &options.secret).map_err(|wrong| CliError::Usage(wrong.to_string()))?;
    let mut body = Vec::new();
    std::io::stdin()
        .read_to_end(&mut body)
        .map_err(|error| CliError::Failed(format!("can't read the body from standard input: {error}")))?;
    let signed = SignatureHeaders { id: &options.id, timestamp: &options.timestamp, signature: &options.signature };
    match verifier.verify(signed, &body, Clock.now(), options.tolerance) {
        Ok(()) => print_result(&format!("The signature is valid for {} bytes.", body.len())),
        Err(error) => {
            let bytes = body.len();
            return Err(CliError::Failed(format!("{error} (body: {bytes} bytes; a trailing newline counts)")));
        }
    }
    Ok(())
}
