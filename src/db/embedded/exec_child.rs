//! The last step before a Postgres process: it gives up root and asks to be stopped when its parent dies.
//!
//! Both must happen between `fork` and `exec`, where the standard library offers only `pre_exec`, which is unsafe. So
//! the server runs its own executable once more, which does them and then becomes Postgres.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Gid, Pid, Signal, Uid};

use super::account::Account;

/// The hidden subcommand; `main` hands everything after it to [`run`] before it does anything else, while the process
/// has one thread.
pub const SUBCOMMAND: &str = "postgres-exec";

/// What the shell answers when a program can't be run.
const CANNOT_RUN: u8 = 126;

/// A command that becomes `program` with `arguments`, as the user of `account`, for as long as the calling *thread*
/// lives: the system ties the signal to the thread that spawns, so that one must stay until the child has ended.
#[must_use]
pub fn command<A: AsRef<OsStr>>(
    helper: &OsStr,
    account: &Account,
    program: &OsStr,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(helper);
    command
        .arg(SUBCOMMAND)
        .arg(rustix::process::getpid().as_raw_nonzero().to_string())
        .arg(account.uid().to_string())
        .arg(account.gid().to_string())
        .arg(program)
        .args(arguments);
    command
}

/// Becomes the program that the arguments name. Comes back only when that can't be done, with the reason on standard
/// error.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let reason = match Request::parse(arguments) {
        Some(request) => request.become_program(),
        None => "expected: PARENT-ID UID GID PROGRAM [ARGUMENT]…".to_owned(),
    };
    // When standard error is closed too, the exit code has to do.
    let _ = writeln!(io::stderr(), "{SUBCOMMAND}: {reason}");
    ExitCode::from(CANNOT_RUN)
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    parent: Pid,
    uid: u32,
    gid: u32,
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Request {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter();
        let mut number = || arguments.next()?.to_str()?.parse::<u32>().ok();
        let parent = number().and_then(|id| Pid::from_raw(id.try_into().ok()?))?;
        let (uid, gid) = (number()?, number()?);
        let program = PathBuf::from(arguments.next()?);
        Some(Self {
            parent,
            uid,
            gid,
            program,
            arguments: arguments.collect(),
        })
    }

    /// Comes back only with the reason why it couldn't.
    fn become_program(self) -> String {
        let Self {
            parent,
            uid,
            gid,
            program,
            arguments,
        } = self;
        if rustix::process::geteuid().is_root()
            && let Err(error) = give_up_root(uid, gid)
        {
            return format!("could not change to user {uid}: {error}");
        }
        // After the change of user, which would clear it. SIGINT is Postgres's fast shutdown.
        if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::INT)) {
            return format!("could not ask for a signal at the parent's end: {error}");
        }
        if rustix::process::getppid() != Some(parent) {
            return "the parent has ended".to_owned();
        }
        let error = Command::new(&program)
            .args(arguments)
            // Postgres takes settings from variables, and libraries of ours are not its own.
            .env_clear()
            .env("LC_ALL", "C")
            .exec();
        format!("could not run {}: {error}", program.display())
    }
}

/// Changes user for good: the saved numbers go too.
fn give_up_root(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::Request;

    fn parse(arguments: &[&str]) -> Option<Request> {
        Request::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn a_whole_request_parses_and_a_partial_one_does_not() {
        let whole = ["17", "1000", "100", "/bin/postgres", "-D", "x"];
        let request = parse(&whole).expect("a whole request");
        assert_eq!((request.uid, request.gid), (1000, 100));
        assert_eq!(request.program, Path::new("/bin/postgres"));
        assert_eq!(request.arguments, ["-D", "x"]);
        for length in 0..4 {
            assert_eq!(
                parse(&whole[..length]),
                None,
                "{length} arguments were enough"
            );
        }
        assert_eq!(parse(&["0", "1000", "100", "/bin/postgres"]), None);
        assert_eq!(parse(&["17", "-1", "100", "/bin/postgres"]), None);
    }
}
