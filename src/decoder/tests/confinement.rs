//! What children can't do, tried by children that do it: this binary's, whose input turns on them in the middle of the
//! real loop.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::process::CommandExt,
    panic,
    path::Path,
    process::Command,
    thread,
};

use rustix::process::{Pid, Resource, Rlimit, getppid, setrlimit, test_kill_process};

use super::*;
use crate::{
    decoder::confine::{self, Barrier},
    image::decode,
};

const OFFENCES: [&str; 7] = [
    "open", "remove", "connect", "thread", "exec", "signal", "unlimit",
];
/// No offence: it panics, which needs more of the system than decoding does.
const PANIC: &str = "panic";

fn offend(offence: &str) {
    match offence {
        "open" => drop(File::open("/etc/passwd")),
        "remove" => drop(fs::remove_file("/nowhere")),
        "connect" => drop(TcpStream::connect("127.0.0.1:9")),
        "thread" => drop(thread::Builder::new().spawn(|| {})),
        "exec" => drop(Command::new("/bin/true").exec()),
        "signal" => drop(test_kill_process(getppid().unwrap_or(Pid::INIT))),
        "unlimit" => drop(setrlimit(
            Resource::Core,
            Rlimit {
                current: Some(0),
                maximum: Some(0),
            },
        )),
        PANIC => assert!(panic::catch_unwind(|| panic!("on purpose")).is_err()),
        other => unreachable!("{other} is no offence"),
    }
}

/// A child's two ends, of which the first offends as it is read after the greeting has been answered.
struct Input<'a> {
    offence: &'a str,
    is_greeted: &'a Cell<bool>,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_greeted.get() {
            offend(self.offence);
        }
        io::stdin().lock().read(buffer)
    }
}

struct Output<'a> {
    file: File,
    is_greeted: &'a Cell<bool>,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.is_greeted.set(true);
        self.file.flush()
    }
}

#[test]
#[ignore = "the child that the other tests start; the offence is its second filter"]
fn offender_entry() {
    let Ok(file) = File::options().write(true).open(OUTPUT) else {
        return;
    };
    let known = |argument: &String| OFFENCES.contains(&argument.as_str()) || argument == PANIC;
    let Some(offence) = std::env::args().find(known) else {
        return;
    };
    let is_greeted = Cell::new(false);
    let mut input = Input {
        offence: &offence,
        is_greeted: &is_greeted,
    };
    let mut output = Output {
        file,
        is_greeted: &is_greeted,
    };
    child::serve(&mut input, &mut output).expect("the pool speaks the protocol");
}

fn offending(offence: &str) -> DecoderPool {
    let entry = format!("decoder::tests::confinement::offender_entry {offence}");
    pool(options_of(&entry, 1))
}

#[tokio::test]
async fn whatever_else_a_child_does_is_its_end() {
    for offence in OFFENCES {
        let pool = offending(offence);
        let confinement = pool.confinement().await.expect("it starts");
        if let Barrier::Missing { reason } = &confinement.seccomp {
            println!("not tried: this kernel has no seccomp ({reason})");
            return;
        }
        let error = pool
            .check(&plain(3, 3, 3))
            .await
            .expect_err("the kernel stops it");
        assert!(
            matches!(
                error,
                DecodeError::Forbidden {
                    format: crate::image::ImageFormat::Png
                }
            ),
            "{offence}: {error:?}"
        );
        assert!(!error.retryable(), "{offence}");
        assert_eq!(error.image_code(), Some(ImageErrorCode::Invalid));
        assert_eq!(idle(&pool), [], "{offence}: the child is gone");
    }
}

#[tokio::test]
async fn a_panic_is_none_of_that() {
    let pool = offending(PANIC);
    for _ in 0..3 {
        pool.check(&plain(3, 3, 3))
            .await
            .expect("unwinding needs nothing that is forbidden");
    }
}

#[tokio::test]
async fn every_kind_of_picture_decodes_behind_the_barriers() {
    let pool = pool(options(1));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    let mut decoded = 0;
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        let bytes = fs::read(&path).expect("it can be read");
        let Ok(image) = InputImage::parse(bytes.into(), &LIMITS) else {
            continue;
        };
        let inside = pool
            .decode(&image, 40)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let here = decode::decode(&image, 40).expect("it decodes here, too");
        assert_eq!(inside.pixels.rgba(), here.rgba(), "{}", path.display());
        decoded += 1;
    }
    assert!(decoded >= 30, "{decoded}");
    assert_eq!(idle(&pool).len(), 1, "one child did it all");
}

#[test]
#[ignore = "the process that the next test starts"]
fn withdrawn_entry() {
    let binary = std::env::current_exe().expect("a test knows its binary");
    match confine::withdraw_files() {
        Barrier::Missing { reason } => {
            println!("not tried: {reason}");
            File::open(binary).expect("nothing was withdrawn");
        }
        Barrier::Up { version } => {
            println!("tried with landlock {version:?}");
            let denied = [
                File::open(&binary).map(drop),
                File::create("/tmp/orfeas-withdrawn").map(drop),
                fs::read_dir("/").map(drop),
                Command::new(&binary).spawn().map(drop),
            ];
            for result in denied {
                let error = result.expect_err("all files are withdrawn");
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            }
            // The fourth version of it knows networks.
            if version.is_none_or(|version| !["V1", "V2", "V3"].contains(&&*version)) {
                let error = TcpStream::connect("127.0.0.1:9").expect_err("no network is left");
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            }
        }
    }
}

#[test]
fn files_and_networks_are_withdrawn_where_the_kernel_can() {
    let binary = std::env::current_exe().expect("a test knows its binary");
    let ended = Command::new(binary)
        .args(["decoder::tests::confinement::withdrawn_entry", "--exact"])
        .args(["--ignored", "--nocapture"])
        .output()
        .expect("this binary starts");
    let said = String::from_utf8_lossy(&ended.stdout);
    print!("{said}");
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("tried"), "{said}");
}

#[test]
#[ignore = "measures what the barriers add to a child's start"]
fn what_confinement_costs() {
    let since = Instant::now();
    let landlock = confine::withdraw_files();
    let between = Instant::now();
    let seccomp = confine::filter_calls();
    let ended = Instant::now();
    println!(
        "{landlock:?}: {:?}; {seccomp:?}: {:?}",
        between - since,
        ended - between
    );
}

#[test]
fn what_is_missing_is_told() {
    let up = Barrier::Up { version: None };
    let mut confinement = Confinement {
        seccomp: up.clone(),
        landlock: Barrier::Up {
            version: Some("V6".into()),
        },
    };
    assert!(confinement.is_complete());
    assert_eq!(confinement.to_string(), "seccomp, landlock V6");
    confinement.landlock = Barrier::Missing {
        reason: "this kernel doesn't have it".into(),
    };
    assert!(!confinement.is_complete());
    assert_eq!(
        confinement.to_string(),
        "seccomp, no landlock (this kernel doesn't have it)"
    );
}
