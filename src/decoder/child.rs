//! The inside of a decoder child.

use std::{
    fs,
    io::{self, Read, Write},
    panic,
    process::ExitCode,
};

use bytes::Bytes;
use rustix::{
    process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit},
    thread::set_no_new_privs,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    confine::{self, Confinement},
    protocol::{self, Hello, Lengths, PREFIX_BYTES, ProtocolError, Question, Reply, Work},
};
use crate::image::{ImageFormat, InputImage, decode, error::ImageError};

/// Why a child gives up. Nobody reads it but a person who starts one by hand: the pool sees the pipes close.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChildError {
    #[error("the pipe to the server broke")]
    Pipe(#[from] io::Error),
    #[error("the server sent a broken frame")]
    Frame(#[from] ProtocolError),
    #[error("there is no memory for {bytes} bytes of picture")]
    NoRoom { bytes: usize },
    #[error("could not limit myself")]
    Limit(#[source] io::Error),
}

/// Answers a [`super::DecoderPool`] over standard input and output until it goes away. For the hidden subcommand
/// of the binary; must be called before other threads are started.
#[must_use]
pub fn run_child() -> ExitCode {
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Limits this process, then answers questions until the input ends.
pub(super) fn serve(input: &mut impl Read, output: &mut impl Write) -> Result<(), ChildError> {
    // A panic is answered as a damaged picture; its text would only fill a pipe that nobody reads.
    panic::set_hook(Box::new(|_| ()));
    let Some((hello, _)) = read::<Hello>(input, 0)? else {
        return Ok(());
    };
    let confinement = limit(hello).map_err(ChildError::Limit)?;
    write(output, &Reply::Ready(confinement), &[])?;
    // The pool knows how large its pictures are; the memory limit keeps its mistakes from mattering.
    while let Some((question, file)) = read::<Question>(input, u64::MAX)? {
        match answer(question, file.into()) {
            Ok((reply, payload)) => write(output, &reply, &payload)?,
            Err(error) => write(output, &Reply::Refused(error), &[])?,
        }
    }
    Ok(())
}

/// No picture needs a file, a core dump or more than its share, and nobody needs a child without its server. Where the
/// kernel lacks a barrier, the child goes on without and says so.
fn limit(hello: Hello) -> io::Result<Confinement> {
    let Hello {
        memory_bytes_max,
        cpu_seconds_max,
    } = hello;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_no_new_privs(true)?;
    let data = data_bytes()?.saturating_add(memory_bytes_max);
    // It takes a file for a moment, so before the limit on them.
    let landlock = confine::withdraw_files();
    for (resource, limit) in [
        // Not the address space: libtorch alone maps gigabytes of it. This one counts private writable memory.
        (Resource::Data, data),
        (Resource::Cpu, cpu_seconds_max),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        // The three that are open stay open.
        (Resource::Nofile, 3),
    ] {
        setrlimit(
            resource,
            Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            },
        )?;
    }
    // Last: it leaves no call to set limits with.
    let seccomp = confine::filter_calls();
    Ok(Confinement { seccomp, landlock })
}

/// Private writable memory that is mapped now, as the kernel counts it against the limit.
fn data_bytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmData:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| io::Error::other("the kernel doesn't say how much memory this process has"))
}

fn answer(question: Question, file: Bytes) -> Result<(Reply, Vec<u8>), ImageError> {
    let Question { limits, work } = question;
    let image = InputImage::parse(file, &limits)?;
    let format = image.format();
    // Codecs hold no state between pictures, so nothing is left broken behind a panic.
    panic::catch_unwind(panic::AssertUnwindSafe(|| work_on(&image, work)))
        .unwrap_or_else(|_| Err(gave_up(format)))
}

fn work_on(image: &InputImage, work: Work) -> Result<(Reply, Vec<u8>), ImageError> {
    match work {
        Work::Check => decode::check(image).map(|()| (Reply::Checked, Vec::new())),
        Work::Decode { side_max } => {
            let pixels = decode::decode(image, side_max)?;
            let reply = Reply::Decoded {
                width: pixels.width(),
                height: pixels.height(),
            };
            Ok((reply, pixels.into_rgba()))
        }
    }
}

fn gave_up(format: ImageFormat) -> ImageError {
    ImageError::Damaged {
        format,
        reason: "its decoder could make nothing of it".into(),
    }
}

/// The next frame, or `None` if the input ends before it.
fn read<T: DeserializeOwned>(
    input: &mut impl Read,
    payload_bytes_max: u64,
) -> Result<Option<(T, Vec<u8>)>, ChildError> {
    let mut prefix = [0; PREFIX_BYTES];
    match input.read_exact(&mut prefix) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let Lengths { header, payload } = protocol::lengths(prefix, payload_bytes_max)?;
    let mut json = vec![0; header];
    input.read_exact(&mut json)?;
    let header = protocol::header(&json)?;
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(payload)
        .map_err(|_| ChildError::NoRoom { bytes: payload })?;
    bytes.resize(payload, 0);
    input.read_exact(&mut bytes)?;
    Ok(Some((header, bytes)))
}

fn write(
    output: &mut impl Write,
    header: &impl Serialize,
    payload: &[u8],
) -> Result<(), ChildError> {
    output.write_all(&protocol::head(header, payload.len()))?;
    output.write_all(payload)?;
    Ok(output.flush()?)
}
