//! The command line: one file per subcommand.

use std::{os::unix::process::CommandExt, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    config::{Settings, environment},
    db::embedded::exec_child,
    decoder,
    error_chain::chain,
    telemetry::{logs, traces::Traces},
};

pub mod audit;
pub mod backup;
pub mod bench;
pub mod client;
pub mod convert;
pub mod demo;
pub mod doctor;
pub mod heap;
pub mod keys;
pub mod models;
pub mod output;
pub mod schema;
pub mod serve;
pub mod sign;
pub mod store;
pub mod token;

/// The hidden subcommand that decodes pictures in a process of its own.
pub const DECODE_CHILD: &str = "decode-child";

/// How long the end of the program waits for threads that wait for the system.
const BLOCKED_MAX: Duration = Duration::from_secs(5);

/// What a subcommand ends with when it fails.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
#[command(
    name = "orfeas",
    version,
    about = "Turns pictures into 3D meshes, in GPU batches",
    after_help = "Settings come from the environment and orfeas.toml; `orfeas config` shows them."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node: the API, the workers, or both.
    Serve,
    /// Convert three sample pictures through a server of its own, and show how it goes.
    Demo(demo::Options),
    /// Convert pictures without a server.
    Convert(convert::Options),
    /// Bring the database's schema up to date.
    Migrate,
    /// Print the GraphQL schema.
    Schema,
    /// Print the settings in force, secrets hidden.
    Config,
    /// Print a token for a person, on the last line.
    Token(token::Options),
    /// Make, list, change, rotate or revoke the keys that programs sign with.
    Keys(keys::Options),
    /// Print the header fields that sign a request with a key.
    Sign(sign::Options),
    /// Verify the audit log, or print where its chain ends.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Look through the store for bytes that no row tells of.
    #[command(subcommand)]
    Store(store::Command),
    /// Write database and store into a folder, while nodes work.
    Backup(backup::MakeOptions),
    /// Put a backup into an empty database and its store.
    Restore(backup::RestoreOptions),
    /// List the models, or check one against its contract.
    Models(models::Options),
    /// Time each stage of conversions through a server of its own.
    Bench(bench::Options),
    /// Tell what was found on this machine, and what is wrong.
    Doctor,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // Helper processes change themselves before they have threads; so they come before everything else.
    match arguments.next() {
        Some(first) if first == exec_child::SUBCOMMAND => return exec_child::run(arguments),
        Some(first) if first == DECODE_CHILD => return decoder::child::run_child(),
        _ => {}
    }
    let Arguments { command } = Arguments::parse();
    if let Some(failed) = restart_with_passive_threads(&command) {
        output::complain(&format!(
            "orfeas: could not start itself anew ({failed}); computing on the CPU may be slow"
        ));
    }
    heap::share();
    let ended = Settings::load()
        .map_err(CommandError::from)
        .and_then(|settings| run(command, settings));
    match ended {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("orfeas: {}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}

/// libgomp's threads spin while they wait for each other, and starve whatever else needs the cores: measured on two
/// busy cores, an encoding took 1.5 s to 7 s with spinning threads and 0.55 s with waiting ones. libgomp reads its
/// setting when it is loaded, before `main`, so the program starts itself once more with it. Returns only on failure.
fn restart_with_passive_threads(command: &Command) -> Option<std::io::Error> {
    let computes = matches!(
        command,
        Command::Serve
            | Command::Demo(_)
            | Command::Convert(_)
            | Command::Models(_)
            | Command::Bench(_)
    );
    if !computes || environment::is_openmp_configured() {
        return None;
    }
    let restart = |program: PathBuf| {
        let mut again = std::process::Command::new(program);
        again
            .args(std::env::args_os().skip(1))
            .env(environment::OPENMP_WAITING, "passive")
            .exec()
    };
    Some(std::env::current_exe().map_or_else(|error| error, restart))
}

fn run(command: Command, settings: Settings) -> Result<ExitCode, CommandError> {
    // A demonstration and the tools speak to a person: only what is wrong interrupts them.
    let quiet = !matches!(command, Command::Serve);
    let filter = if quiet && settings.orfeas_log == Settings::default().orfeas_log {
        "error"
    } else {
        &settings.orfeas_log
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let traces = match command {
        Command::Serve if environment::wants_traces() => Some(Traces::start(
            environment::service_name(),
            runtime.handle(),
        )?),
        _ => None,
    };
    logs::init(filter, settings.orfeas_log_json, traces.as_ref())?;
    let ended = runtime.block_on(async {
        match command {
            Command::Serve => serve::run(settings).await,
            Command::Demo(options) => demo::run(settings, options).await,
            Command::Convert(options) => convert::run(settings, options).await,
            Command::Migrate => schema::migrate(settings).await,
            Command::Schema => schema::print(),
            Command::Config => schema::config(&settings),
            Command::Token(options) => token::run(&settings, options),
            Command::Keys(options) => keys::run(settings, options).await,
            Command::Sign(options) => sign::run(options),
            Command::Audit(command) => audit::run(settings, command).await,
            Command::Store(command) => store::run(settings, command).await,
            Command::Backup(options) => backup::make(settings, options).await,
            Command::Restore(options) => backup::restore(settings, options).await,
            Command::Models(options) => models::run(settings, options).await,
            Command::Bench(options) => bench::run(settings, options).await,
            Command::Doctor => doctor::run(settings).await,
        }
    });
    if let Some(traces) = traces {
        traces.flush();
    }
    // A read that hangs in a dead store must not keep the process: its rows have been handed back.
    runtime.shutdown_timeout(BLOCKED_MAX);
    ended
}

/// This program's own file, for the processes that it starts.
///
/// # Errors
/// When the system does not tell.
pub fn program() -> Result<PathBuf, CommandError> {
    Ok(std::env::current_exe()?)
}
