//! The command line: what can be typed, one file per command.
//!
//! Settings are flags of every command, made from their table; what a command takes beside them is declared in its file.
//! Standard output is for what was asked for (a token, a key, a link); everything else goes to standard error. Exit codes: 0 done, 1 it
//! did not work, 2 it was typed or set wrong, 70 an internal error ended `serve`.

mod demo;
mod development;
mod key;
mod login_link;
mod master_key;
mod migrate;
mod send;
mod serve;
mod token;
mod verify;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::AppError;
use crate::config::settings::{SETTINGS, unknown_variables};
use crate::config::{Config, Fault, Settings};

/// The exit code of a process that lost a task it cannot do without; `EX_SOFTWARE` of sysexits.
const EXIT_SOFTWARE: u8 = 70;

/// Sendoff delivers events as signed webhooks: from the REST API or an outbox table to your customers' endpoints.
#[derive(Debug, Parser)]
#[command(name = "sendoff", version, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Each setting is also an environment variable (--max-payload is SENDOFF_MAX_PAYLOAD) and an entry of \
    the TOML file that --config names (max_payload). A flag goes before the environment, the environment before the file."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// API, dashboard and engine
    Serve,
    /// The same on a throw-away database, with receivers, customers, a day of history and a trickle of events
    Demo,
    /// Print a bearer token for the REST API
    Token(token::Options),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Change the key that seals the endpoints' secrets
    #[command(subcommand)]
    MasterKey(master_key::MasterKeyCommand),
    /// Print a one-time link that signs an operator in to the dashboard
    LoginLink(login_link::Options),
    /// Bring the database's schema up to this version
    Migrate,
    /// Send one message through the REST API of a running Sendoff
    Send(send::Options),
    /// Forward an application's events to a program on this machine, signed, as they are accepted
    Listen(development::listen::Options),
    /// Send the example of an event type to an application
    Trigger(development::trigger::Options),
    /// Follow an application's attempts
    Tail(development::tail::Options),
    /// Check a signature as a receiver would; the body comes from standard input
    Verify(verify::Options),
    /// Print the version, as --version does
    Version,
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// It was typed or set wrong.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    App(#[from] AppError),
    #[error("{0}")]
    Failed(String),
}

impl From<Fault> for CliError {
    fn from(fault: Fault) -> CliError {
        CliError::App(fault.into())
    }
}

impl From<crate::store::StoreError> for CliError {
    fn from(error: crate::store::StoreError) -> CliError {
        CliError::App(error.into())
    }
}

/// Runs the command that `arguments` (the program's name first) stand for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let code = run_command(arguments);
    crate::telemetry::flush();
    code
}

fn run_command(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = SETTINGS.iter().map(|setting| {
        let default = setting.default.filter(|default| !default.is_empty());
        let default = default.map(|default| format!(" [{default}]")).unwrap_or_default();
        let flag = Arg::new(setting.name)
            .long(setting.flag())
            .value_name("VALUE")
            .help(format!("{}{default}", setting.help))
            .help_heading("Settings")
            .global(true);
        // A switch may be given without a value.
        if setting.form == "true or false" { flag.num_args(0..=1).default_missing_value("true") } else { flag }
    });
    let matches = match Cli::command().args(flags).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return usage_error(&error),
    };
    let done = Cli::from_arg_matches(&matches).map_err(|error| CliError::Usage(one_line(&error)));
    match done.and_then(|line| dispatch(line.command, &matches)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whatever a cause says: one line.
            print_error(&error.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::from(match error {
                CliError::Usage(_) | CliError::App(AppError::Setting(_)) => 2,
                CliError::App(AppError::Lost(_)) => EXIT_SOFTWARE,
                CliError::App(_) | CliError::Failed(_) => 1,
            })
        }
    }
}

fn dispatch(command: Command, matches: &ArgMatches) -> Result<(), CliError> {
    // What needs no settings must not fail over them.
    match command {
        Command::Verify(options) => return verify::run(&options),
        Command::Version => {
            print_result(concat!("sendoff ", env!("CARGO_PKG_VERSION")));
            return Ok(());
        }
        _ => {}
    }
    let settings = Settings::gather(
        |name| matches.get_one::<String>(name).cloned(),
        |variable| std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned()),
    )?;
    match command {
        Command::Serve => in_runtime(serve::run(load_config(&settings)?)),
        Command::Demo => in_runtime(demo::run(settings)),
        Command::Token(options) => token::run(&load_config(&settings)?, &options),
        Command::Key(command) => in_runtime(key::run(load_config(&settings)?, command)),
        Command::LoginLink(options) => in_runtime(login_link::run(load_config(&settings)?, options)),
        Command::MasterKey(command) => in_runtime(master_key::run(load_config(&settings)?, command)),
        Command::Migrate => in_runtime(migrate::run(load_config(&settings)?)),
        Command::Send(options) => in_runtime(send::run(load_config(&settings)?, options)),
        Command::Listen(options) => in_runtime(development::listen::run(load_config(&settings)?, options)),
        Command::Trigger(options) => in_runtime(development::trigger::run(load_config(&settings)?, options)),
        Command::Tail(options) => in_runtime(development::tail::run(load_config(&settings)?, options)),
        Command::Verify(_) | Command::Version => Ok(()),
    }
}

/// Checks the settings and begins to log as they say.
fn load_config(settings: &Settings) -> Result<Config, CliError> {
    let config = Config::new(settings)?;
    crate::telemetry::log(&config.log);
    let names: Vec<String> = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    for name in unknown_variables(names.iter().map(String::as_str)) {
        tracing::warn!("{name} is no setting of Sendoff: is it mistyped?");
    }
    Ok(config)
}

fn in_runtime(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    // At least two threads, also where one core is seen: the engine and the writer must not wait for each other.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("can't start threads: {error}")))?;
    let done = runtime.block_on(command);
    // What still blocks a thread (a name that does not resolve) is no reason to wait.
    runtime.shutdown_background();
    done
}

/// What clap has to say: help and version as they are, an error in one line.
fn usage_error(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            print_error(&one_line(error));
            ExitCode::from(2)
        }
    }
}

/// An error of clap's without its paragraphs.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let said = said.collect::<Vec<_>>().join(" ");
    format!("{}; `sendoff --help` lists what there is", said.strip_prefix("error: ").unwrap_or(&said))
}

fn print_error(line: &str) {
    crate::telemetry::print_error(&format!("sendoff: {line}"));
}

/// Prints what a command was asked for to standard output, and waits for its reader. A reader that has hung up is no error.
fn print_result(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints what a server has to say to standard output, and waits for nobody.
fn print_notice(text: &str) {
    crate::telemetry::print(text);
}
