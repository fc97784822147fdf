//! One decoder child, as the pool sees it.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    confine::Confinement,
    error::{DecodeError, Ending},
    protocol::{self, Answer, Hello, Lengths, PREFIX_BYTES, ProtocolError, Question, Reply, Work},
    spawner::Spawner,
};
use crate::image::{ImageLimits, InputImage, error::ImageError, pixels::Pixels};

/// After this many pictures a child is replaced: whatever a codec may leak or fragment stays bounded.
pub(super) const PICTURES_MAX: u32 = 500;
/// How long a child whose pipes have closed gets to end by itself.
const END_MAX: Duration = Duration::from_secs(1);
/// What is kept of a dying child's last words.
const LAST_WORDS_BYTES_MAX: u64 = 4096;
/// How Rust's runtime starts its last words when an allocation fails.
const OUT_OF_MEMORY: &str = "memory allocation of";
/// The kernel's numbers of SIGABRT (how a failed allocation ends), SIGXCPU (the limit on processor time) and SIGSYS (a
/// forbidden system call).
const SIGABRT: i32 = 6;
const SIGXCPU: i32 = 24;
pub(super) const SIGSYS: i32 = 31;

/// How children are started.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) memory_bytes_max: u64,
    pub(super) time_max: Duration,
}

/// Makes children for the pool, and tells which of them are still good.
#[derive(Debug)]
pub(super) struct Children {
    launch: Launch,
    spawner: Spawner,
    /// Whether the log says already what children lack.
    is_told: AtomicBool,
}

impl Children {
    pub(super) fn new(launch: Launch) -> io::Result<Self> {
        Ok(Self {
            launch,
            spawner: Spawner::start()?,
            is_told: AtomicBool::new(false),
        })
    }

    /// Says once what keeps children from being confined as they should be.
    fn tell(&self, confinement: &Confinement) {
        if !confinement.is_complete() && !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!("Decoders are confined less than they could be: {confinement}");
        }
    }

    fn command(&self) -> Command {
        let Launch {
            program,
            args,
            environment,
            memory_bytes_max: _,
            time_max: _,
        } = &self.launch;
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C is for the server, which wants to finish what is running.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

impl Manager for Children {
    type Type = ChildProcess;
    type Error = DecodeError;

    async fn create(&self) -> Result<ChildProcess, DecodeError> {
        let spawn_failed = |source| DecodeError::Spawn { source };
        let mut child = self
            .spawner
            .spawn(self.command())
            .await
            .map_err(spawn_failed)?;
        let pipes = child
            .stdin
            .take()
            .zip(child.stdout.take())
            .zip(child.stderr.take());
        let ((stdin, stdout), stderr) = pipes.expect("all three were asked for as pipes");
        let mut child = ChildProcess {
            child,
            stdin,
            stdout,
            stderr,
            pictures: 0,
            confinement: None,
        };
        let hello = Hello {
            memory_bytes_max: self.launch.memory_bytes_max,
            cpu_seconds_max: (self.launch.time_max.as_secs() + 1) * u64::from(PICTURES_MAX),
        };
        match child.greet(hello).await {
            Ok(()) => {
                self.tell(child.confinement());
                Ok(child)
            }
            Err(failure) => Err(child.post_mortem(failure, self.launch.time_max).await),
        }
    }

    async fn recycle(&self, child: &mut ChildProcess, _: &Metrics) -> RecycleResult<DecodeError> {
        if child.pictures >= PICTURES_MAX {
            return Err(RecycleError::message("it has served its time"));
        }
        match child.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(RecycleError::message("it has ended")),
        }
    }
}

/// Why an exchange broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("the pipe broke")]
    Pipe(#[from] io::Error),
    #[error("the frame is broken")]
    Frame(#[from] ProtocolError),
    #[error("the reply belongs to another question")]
    OutOfTurn,
}

/// A living child and its pipes. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct ChildProcess {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    /// How many it was asked about.
    pictures: u32,
    /// What it says of itself once it has been greeted.
    confinement: Option<Confinement>,
}

impl ChildProcess {
    /// What it is confined by.
    pub(super) fn confinement(&self) -> &Confinement {
        let confinement = self.confinement.as_ref();
        confinement.expect("children of the pool have been greeted")
    }

    /// Its process id while it hasn't been reaped.
    #[cfg(test)]
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    async fn greet(&mut self, hello: Hello) -> Result<(), ExchangeError> {
        self.stdin.write_all(&protocol::head(&hello, 0)).await?;
        match self.read::<Reply>(0).await? {
            (Reply::Ready(confinement), _) => {
                self.confinement = Some(confinement);
                Ok(())
            }
            _ => Err(ExchangeError::OutOfTurn),
        }
    }

    /// Asks about one picture; what is inside the result is the child's verdict on it. After an error, or when the future is dropped before its end, the child is out
    /// of step and must not be asked again.
    pub(super) async fn exchange(
        &mut self,
        image: &InputImage,
        limits: ImageLimits,
        work: Work,
    ) -> Result<Result<Answer, ImageError>, ExchangeError> {
        self.pictures += 1;
        let bytes = image.bytes();
        self.stdin
            .write_all(&protocol::head(&Question { limits, work }, bytes.len()))
            .await?;
        self.stdin.write_all(bytes).await?;
        let side_max = match work {
            Work::Check => 0,
            Work::Decode { side_max } => u64::from(side_max.max(1)),
        };
        let (reply, payload) = self
            .read::<Reply>(side_max.saturating_mul(side_max).saturating_mul(4))
            .await?;
        match (reply, work) {
            (Reply::Checked, Work::Check) => Ok(Ok(Answer::Checked)),
            (Reply::Refused(error), _) => Ok(Err(error)),
            (Reply::Decoded { width, height }, Work::Decode { .. })
                if u64::from(width.max(height)) <= side_max =>
            {
                let pixels = Pixels::new(width, height, payload).ok_or(ExchangeError::OutOfTurn)?;
                Ok(Ok(Answer::Decoded(pixels)))
            }
            _ => Err(ExchangeError::OutOfTurn),
        }
    }

    async fn read<T: DeserializeOwned>(
        &mut self,
        payload_bytes_max: u64,
    ) -> Result<(T, Vec<u8>), ExchangeError> {
        let mut prefix = [0; PREFIX_BYTES];
        self.stdout.read_exact(&mut prefix).await?;
        let Lengths { header, payload } = protocol::lengths(prefix, payload_bytes_max)?;
        let mut json = vec![0; header];
        self.stdout.read_exact(&mut json).await?;
        let header = protocol::header(&json)?;
        let mut bytes = vec![0; payload];
        self.stdout.read_exact(&mut bytes).await?;
        Ok((header, bytes))
    }

    /// What a broken exchange means, by how the child ended. It is killed with its owner if it hasn't.
    pub(super) async fn post_mortem(
        &mut self,
        failure: ExchangeError,
        time_max: Duration,
    ) -> DecodeError {
        if let ExchangeError::Frame(_) | ExchangeError::OutOfTurn = failure {
            return DecodeError::Crashed {
                ending: Ending::OutOfTurn,
            };
        }
        let Ok(Ok(status)) = timeout(END_MAX, self.child.wait()).await else {
            return DecodeError::Crashed {
                ending: Ending::Unknown,
            };
        };
        match status.signal() {
            Some(SIGABRT) if self.last_words().await.contains(OUT_OF_MEMORY) => {
                DecodeError::Image(ImageError::TooMuchMemory)
            }
            Some(SIGXCPU) => DecodeError::TimedOut { time_max },
            _ => DecodeError::Crashed {
                ending: ending(status),
            },
        }
    }

    /// The beginning of what it wrote to its standard error, if it can be read at all.
    async fn last_words(&mut self) -> String {
        let mut words = Vec::new();
        // What was read before an error or the time limit counts.
        let _ = timeout(
            END_MAX,
            (&mut self.stderr)
                .take(LAST_WORDS_BYTES_MAX)
                .read_to_end(&mut words),
        )
        .await;
        String::from_utf8_lossy(&words).into_owned()
    }
}

fn ending(status: ExitStatus) -> Ending {
    match (status.signal(), status.code()) {
        (Some(signal), _) => Ending::Signal(signal),
        (None, Some(code)) => Ending::Exit(code),
        (None, None) => Ending::Unknown,
    }
}
