//! Decoding in killable child processes of the same binary.
//!
//! Codecs meet hostile bytes, so they run where a crash, a hang or a flood of memory costs one process and no
//! server: each object of a `deadpool` pool is a child that speaks a protocol of frames over its standard input and
//! output, under limits that it sets on itself before it reads a picture ([`child`]), and behind barriers of the kernel's
//! ([`confine`]) against doing anything but computing.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use deadpool::{
    Runtime,
    managed::{Object, Pool, PoolError, Timeouts},
};

use self::{
    confine::Confinement,
    error::{DecodeError, Ending},
    process::{ChildProcess, Children},
    protocol::{Answer, Work},
    recent::Recent,
};
use crate::image::{ImageLimits, InputImage, frame::FrameOptions};

pub use recent::{Decoded, Start};

pub mod child;
pub mod confine;
pub mod error;
mod process;
mod protocol;
mod recent;
mod spawner;

/// The longest that a new child may take to start and set its limits. Mapping libtorch takes a fraction of a
/// second; a cold disk may take several.
const START_MAX: Duration = Duration::from_secs(30);

/// How children are started and what they may use.
#[derive(Debug, Clone)]
pub struct DecoderOptions {
    /// The absolute path of the binary whose arguments `args` end in [`child::run_child`].
    pub program: PathBuf,
    /// Such as the name of a hidden subcommand.
    pub args: Vec<OsString>,
    /// All the environment that a child gets: the server's own may hold secrets.
    pub environment: Vec<(OsString, OsString)>,
    /// Children at a time, at least 1.
    pub processes_max: usize,
    /// How long a caller waits for a free child before it is told [`DecodeError::Busy`].
    pub wait_max: Duration,
    /// How long one picture may take.
    pub time_max: Duration,
    /// What a child may allocate beyond what it has at its start. A picture at the pixel limit needs about 10
    /// bytes a pixel at worst (16-bit RGBA, or a progressive JPEG's coefficients beside its pixels).
    pub memory_bytes_max: u64,
    /// Checked once more inside the child.
    pub limits: ImageLimits,
}

/// The pool of decoder children. Clones share it; the last one dropped kills the children.
#[derive(Debug, Clone)]
pub struct DecoderPool {
    pool: Pool<Children>,
    wait_max: Duration,
    time_max: Duration,
    limits: ImageLimits,
    recent: Option<Recent>,
}

impl DecoderPool {
    /// An empty pool: children start when they are needed, and are kept.
    ///
    /// # Errors
    /// [`DecodeError::Spawn`] if the thread that starts children can't be started.
    ///
    /// # Panics
    /// If `processes_max` is 0.
    pub fn new(options: DecoderOptions) -> Result<Self, DecodeError> {
        let DecoderOptions {
            program,
            args,
            environment,
            processes_max,
            wait_max,
            time_max,
            memory_bytes_max,
            limits,
        } = options;
        assert!(
            processes_max > 0,
            "a pool without processes would never answer"
        );
        let manager = Children::new(process::Launch {
            program,
            args,
            environment,
            memory_bytes_max,
            time_max,
        })
        .map_err(|source| DecodeError::Spawn { source })?;
        let pool = Pool::builder(manager)
            .max_size(processes_max)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(wait_max),
                create: Some(START_MAX),
                recycle: None,
            })
            .build()
            .expect("a runtime is named for the time limits");
        Ok(Self {
            pool,
            wait_max,
            time_max,
            limits,
            recent: None,
        })
    }

    /// With this, what is checked is remembered, sixty-four pictures for half a minute, for whoever decodes it to `side_max`
    /// next, and framed meanwhile, which is started by `start`.
    #[must_use]
    pub fn remembering(self, side_max: u32, start: Start) -> Self {
        Self {
            recent: Some(Recent::new(side_max, start)),
            ..self
        }
    }

    /// Decodes a picture completely, for its errors alone.
    ///
    /// # Errors
    /// [`DecodeError::Image`] if the picture is at fault, else what kept the pool from finding out.
    pub async fn check(&self, image: &InputImage) -> Result<(), DecodeError> {
        let recent = self.recent.as_ref().filter(|recent| recent.has_room());
        let work = recent.map_or(Work::Check, |recent| Work::Decode {
            side_max: recent.side_max,
        });
        match (self.exchange(image, work).await?, recent) {
            (Answer::Decoded(pixels), Some(recent)) => recent.keep(image, pixels),
            (Answer::Checked, None) => {}
            _ => unreachable!("an exchange ends with the answer to its work"),
        }
        Ok(())
    }

    /// Decodes a picture, scaled down so that no side exceeds `side_max`, upright.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn decode(&self, image: &InputImage, side_max: u32) -> Result<Decoded, DecodeError> {
        let recent = self.recent.as_ref();
        let recent = recent.filter(|recent| recent.side_max == side_max);
        if let Some(decoded) = recent.and_then(|recent| recent.take(image)) {
            return Ok(decoded);
        }
        match self.exchange(image, Work::Decode { side_max }).await? {
            Answer::Decoded(pixels) => Ok(pixels.into()),
            Answer::Checked => unreachable!("an exchange ends with the answer to its work"),
        }
    }

    /// Notes how a picture is framed, its alpha alone telling what is in it: those that are checked next are framed alike, before
    /// anybody asks.
    pub fn note_framing(&self, options: FrameOptions, has_transparency: bool) {
        if let Some(recent) = &self.recent {
            recent.note_framing(options, has_transparency);
        }
    }

    /// What children are confined by on this machine; starts one if there is none.
    ///
    /// # Errors
    /// What kept it from starting, or [`DecodeError::Busy`].
    pub async fn confinement(&self) -> Result<Confinement, DecodeError> {
        let child = self.pool.get().await;
        let child = child.map_err(|error| self.unavailable(error))?;
        Ok(child.confinement().clone())
    }

    async fn exchange(&self, image: &InputImage, work: Work) -> Result<Answer, DecodeError> {
        let mut lease = Lease::new(
            self.pool
                .get()
                .await
                .map_err(|error| self.unavailable(error))?,
        );
        let child = lease.child();
        let answer =
            match tokio::time::timeout(self.time_max, child.exchange(image, self.limits, work))
                .await
            {
                Err(_) => {
                    return Err(DecodeError::TimedOut {
                        time_max: self.time_max,
                    });
                }
                Ok(Ok(answer)) => answer,
                Ok(Err(failure)) => {
                    let error = child.post_mortem(failure, self.time_max).await;
                    return Err(forbidden(error, image));
                }
            };
        lease.give_back();
        answer.map_err(DecodeError::Image)
    }

    fn unavailable(&self, error: PoolError<DecodeError>) -> DecodeError {
        match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(deadpool::managed::TimeoutType::Wait) => DecodeError::Busy {
                wait_max: self.wait_max,
            },
            PoolError::Timeout(_) => DecodeError::TimedOut {
                time_max: START_MAX,
            },
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                unreachable!("the pool is never closed, has a runtime and no hooks")
            }
        }
    }
}

/// A child that the kernel stopped for what no decoder does was taken over by its picture, or nearly.
fn forbidden(error: DecodeError, image: &InputImage) -> DecodeError {
    let DecodeError::Crashed {
        ending: Ending::Signal(process::SIGSYS),
    } = error
    else {
        return error;
    };
    let format = image.format();
    tracing::error!(
        picture.format = format.name(),
        picture.bytes = image.bytes().len(),
        picture.width = image.width(),
        picture.height = image.height(),
        "A decoder was stopped at a system call that no picture needs; the kernel's log may say which"
    );
    DecodeError::Forbidden { format }
}

/// A child on loan. Unless it is given back, which only happens when its answer has been read to the end, it is
/// killed: a caller who went away in the middle leaves no child whose next answer belongs to the last question.
struct Lease(Option<Object<Children>>);

impl Lease {
    fn new(object: Object<Children>) -> Self {
        Self(Some(object))
    }

    fn child(&mut self) -> &mut ChildProcess {
        self.0.as_mut().expect("it is only taken at the end")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            // Out of the pool first: it makes room for a new one. Dropping the process kills it.
            drop(Object::take(object));
        }
    }
}

#[cfg(test)]
mod tests;
