//! The Postgres process: made ready, watched, stopped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::error::{EmbeddedError, folder_error};
use super::home::{Home, STAGE_DIR};
use super::installation::{Installation, MAJOR_VERSION};
use super::keeper::Keeper;
use super::{PORT, ROLE, exec_child};

/// What counts unless the caller's settings say otherwise.
const DEFAULT_SETTINGS: [(&str, &str); 5] = [
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    // Failed statements are their clients' to report; here they would let the log grow without bound.
    ("log_min_messages", "log"),
    ("log_checkpoints", "off"),
    // Room for several nodes' pools and for the command line beside them; a connection that isn't there costs 20 kB.
    ("max_connections", "200"),
];

/// A log larger than this is put aside at the next start, in place of the one put aside before.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// How much of the log an error quotes.
const LOG_TAIL_BYTES: u64 = 2_000;

/// How often the pid file is looked at while Postgres starts, which takes 20 ms.
const READY_POLL: Duration = Duration::from_millis(2);

/// A fast shutdown writes a checkpoint: at most `shared_buffers`, 128 MB.
const FAST_STOP_MAX: Duration = Duration::from_secs(20);

/// After an immediate shutdown's signal children have 5 s before Postgres kills them.
const IMMEDIATE_STOP_MAX: Duration = Duration::from_secs(10);

/// How long what a killed Postgres left behind may take to go.
const REMAINS_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a Postgres whose parent has died is left to stop by itself before it is told to.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(3);

/// How often what goes away by itself is looked at.
const REMAINS_POLL: Duration = Duration::from_millis(20);

/// What [`Postmaster::start`] needs to know.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// The programs.
    pub installation: Installation,
    /// Our executable, which becomes Postgres.
    pub helper_program: PathBuf,
    /// Settings beyond the defaults, which they override.
    pub settings: Vec<(String, String)>,
    /// How long Postgres may take until it accepts connections.
    pub ready_wait_max: Duration,
}

/// A Postgres that this process started. Dropping it stops it.
#[derive(Debug)]
pub struct Postmaster {
    keeper: Keeper,
    home: Home,
}

impl Postmaster {
    /// Makes the cluster when there is none, waits for the remains of an earlier Postgres to go, starts, and waits until
    /// connections are accepted. Blocks. The caller holds the data folder's lock.
    ///
    /// # Errors
    /// [`EmbeddedError`], with the end of the log where Postgres wrote one.
    pub fn start(home: &Home, options: LaunchOptions) -> Result<Self, EmbeddedError> {
        let LaunchOptions {
            installation,
            helper_program,
            settings,
            ready_wait_max,
        } = options;
        let started = Instant::now();
        // The child works in another folder. Not every link resolved: `/proc/self/exe` is for the child to follow.
        let helper_program =
            std::path::absolute(&helper_program).map_err(|source| EmbeddedError::Spawn {
                program: helper_program,
                source,
            })?;
        let installation = installation.reachable_by(home.account(), Path::new(STAGE_DIR))?;
        if home.cluster().exists() {
            check_version(&home.cluster())?;
            wait_for_predecessor(home)?;
        } else {
            make_cluster(home, &installation, &settings)?;
        }
        home.remove_socket()?;
        loop {
            let log = open_log(&home.log())?;
            let mut command = exec_child::command(
                helper_program.as_os_str(),
                home.account(),
                installation.program("postgres").as_os_str(),
                arguments(home, &settings),
            );
            command
                .current_dir("/")
                // Ctrl-C at a terminal reaches the whole group; it is for us to stop Postgres, once we are done with it.
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(
                    log.try_clone()
                        .map_err(|source| folder_error("open", &home.log(), source))?,
                )
                .stderr(log);
            let keeper = Keeper::spawn(command).map_err(|source| EmbeddedError::Spawn {
                program: helper_program.clone(),
                source,
            })?;
            match wait_ready(home, keeper, ready_wait_max) {
                Ok(keeper) => {
                    let duration_ms = started.elapsed().as_millis();
                    tracing::info!(
                        process_id = keeper.process_id(),
                        duration_ms,
                        "Postgres is ready after {duration_ms} ms"
                    );
                    return Ok(Self {
                        keeper,
                        home: home.clone(),
                    });
                }
                Err(EmbeddedError::Exited { log_tail, .. })
                    if is_held_by_remains(&log_tail) && started.elapsed() < REMAINS_WAIT_MAX =>
                {
                    thread::sleep(REMAINS_POLL * 10);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.keeper.process_id()
    }

    /// Cuts connections and waits until the process is gone. Blocks, usually for 15 ms.
    ///
    /// # Errors
    /// [`EmbeddedError::NotStopped`].
    pub fn stop(&self) -> Result<(), EmbeddedError> {
        for (signal, wait_max) in [
            (Signal::INT, FAST_STOP_MAX),
            (Signal::QUIT, IMMEDIATE_STOP_MAX),
        ] {
            self.keeper.signal(signal);
            if self.keeper.wait_timeout(wait_max).is_some() {
                return Ok(());
            }
        }
        Err(EmbeddedError::NotStopped {
            process_id: self.process_id(),
            seconds: (FAST_STOP_MAX + IMMEDIATE_STOP_MAX).as_secs(),
        })
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        let stopped = self
            .stop()
            .and_then(|()| self.home.clear_short_socket_dir());
        if let Err(error) = stopped {
            tracing::warn!("{error}");
        }
    }
}

fn arguments(home: &Home, settings: &[(String, String)]) -> Vec<OsString> {
    let socket_dir = home.socket_dir().to_string_lossy().into_owned();
    // Where others would find it is not for the caller to say; Postgres takes the last of two.
    let fixed = [
        ("listen_addresses", String::new()),
        ("port", PORT.to_string()),
        ("unix_socket_directories", socket_dir),
        ("unix_socket_permissions", "0700".to_owned()),
    ];
    let defaults = DEFAULT_SETTINGS
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let asked = settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let fixed = fixed.iter().map(|(name, value)| format!("{name}={value}"));
    let mut arguments = vec![OsString::from("-D"), home.cluster().into_os_string()];
    for setting in defaults.chain(asked).chain(fixed) {
        arguments.push("-c".into());
        arguments.push(setting.into());
    }
    arguments
}

/// Makes the cluster beside its place and moves it there when it is whole, so that a start that is cut off leaves
/// nothing half done.
fn make_cluster(
    home: &Home,
    installation: &Installation,
    settings: &[(String, String)],
) -> Result<(), EmbeddedError> {
    let unfinished = home.path().join("data.new");
    match fs::remove_dir_all(&unfinished) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(folder_error("remove", &unfinished, source));
        }
        _ => (),
    }
    let program = installation.program("initdb");
    let mut command = Command::new(&program);
    command
        .arg("-D")
        .arg(&unfinished)
        .args([
            "--username",
            ROLE,
            "--auth-local=trust",
            "--auth-host=reject",
        ])
        // Code-point order whatever the system's locales, with Unicode's upper and lower case.
        .args([
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ])
        .arg("--no-instructions")
        .env_clear()
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .current_dir(home.path())
        .stdin(Stdio::null());
    let is_durable = !settings
        .iter()
        .any(|(name, value)| name == "fsync" && value == "off");
    if !is_durable {
        command.arg("--no-sync");
    }
    if home.account().is_switched() {
        command.uid(home.account().uid()).gid(home.account().gid());
    }
    let output = command
        .output()
        .map_err(|source| EmbeddedError::Spawn { program, source })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(EmbeddedError::Initdb {
            status: output.status,
            output: text,
        });
    }
    let cluster = home.cluster();
    fs::rename(&unfinished, &cluster).map_err(|source| folder_error("create", &cluster, source))
}

fn check_version(cluster: &Path) -> Result<(), EmbeddedError> {
    let path = cluster.join("PG_VERSION");
    let text = fs::read_to_string(&path).map_err(|source| folder_error("read", &path, source))?;
    let found = text.trim();
    if found == MAJOR_VERSION {
        return Ok(());
    }
    Err(EmbeddedError::OtherVersion {
        path: cluster.to_path_buf(),
        found: found.to_owned(),
        expected: MAJOR_VERSION,
    })
}

/// The Postgres of a holder that was killed has been told to stop and may still be writing its checkpoint.
///
/// A pid file whose process is another program by now, as after a container's restart, would keep Postgres from
/// starting; it is removed. One whose process is gone stays: Postgres learns from it which memory to wait for.
fn wait_for_predecessor(home: &Home) -> Result<(), EmbeddedError> {
    let started = Instant::now();
    let mut signals = [
        (ORPHAN_PATIENCE, Signal::INT),
        (ORPHAN_PATIENCE + FAST_STOP_MAX, Signal::QUIT),
    ]
    .into_iter()
    .peekable();
    loop {
        let Some(file) = home.pid_file()? else {
            return Ok(());
        };
        let Some(process) = Pid::from_raw(file.process_id) else {
            return Ok(());
        };
        if rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH) {
            return Ok(());
        }
        if !is_postgres_of(process, &home.cluster()) {
            return home.remove_pid_file();
        }
        if started.elapsed() > REMAINS_WAIT_MAX {
            return Err(EmbeddedError::Orphan {
                process_id: file.process_id,
                path: home.cluster(),
            });
        }
        if let Some((_, signal)) = signals.next_if(|(after, _)| started.elapsed() > *after) {
            tracing::warn!(
                "Stopping Postgres {}, which an earlier run left behind",
                file.process_id
            );
            // When it has just ended by itself, so much the better.
            let _ = rustix::process::kill_process(process, signal);
        }
        thread::sleep(REMAINS_POLL);
    }
}

/// Postgres works in its data folder. One we may not ask isn't ours: ours runs as us, or we are root.
fn is_postgres_of(process: Pid, cluster: &Path) -> bool {
    let link = format!("/proc/{}/cwd", process.as_raw_nonzero());
    fs::read_link(link).is_ok_and(|folder| folder == cluster)
}

/// Postgres says this while sessions of a predecessor that was killed still run.
fn is_held_by_remains(log_tail: &str) -> bool {
    log_tail.contains("shared memory block")
}

fn wait_ready(home: &Home, keeper: Keeper, wait_max: Duration) -> Result<Keeper, EmbeddedError> {
    let started = Instant::now();
    loop {
        if let Some(exit) = keeper.wait_timeout(READY_POLL) {
            return Err(EmbeddedError::Exited {
                status: describe(exit),
                log: home.log(),
                log_tail: log_tail(&home.log()),
            });
        }
        let is_ready = home.pid_file()?.is_some_and(|file| {
            i64::from(file.process_id) == i64::from(keeper.process_id()) && file.is_ready()
        });
        if is_ready {
            return Ok(keeper);
        }
        if started.elapsed() > wait_max {
            let error = EmbeddedError::NotReady {
                seconds: wait_max.as_secs(),
                log: home.log(),
                log_tail: log_tail(&home.log()),
            };
            drop(Postmaster {
                keeper,
                home: home.clone(),
            });
            return Err(error);
        }
    }
}

fn describe(exit: Option<ExitStatus>) -> String {
    exit.map_or_else(|| "how is unknown".to_owned(), |status| status.to_string())
}

fn open_log(path: &Path) -> Result<File, EmbeddedError> {
    let is_large = fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX);
    if is_large {
        fs::rename(path, path.with_added_extension("1"))
            .map_err(|source| folder_error("put aside", path, source))?;
    }
    File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| folder_error("open", path, source))
}

/// The end of the log for an error's text; the error is the point, so what can't be read is left out.
fn log_tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_default()
}
