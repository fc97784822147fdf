//! The pool with real children: this test binary, started once more as [`child_entry`].

use std::{
    fs::{self, File},
    sync::Arc,
    time::Instant,
};

use ::image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::sleep;

use super::{error::Ending, *};
use crate::image::error::{ImageError, ImageErrorCode};

const LIMITS: ImageLimits = ImageLimits {
    bytes_max: 20 << 20,
    pixels_max: 50_000_000,
};
/// Where [`child_entry`] finds its standard output: the test harness writes on the other one.
const OUTPUT: &str = "/proc/self/fd/3";

mod confinement;

#[test]
#[ignore = "the child that the other tests start"]
fn child_entry() {
    let Ok(mut output) = File::options().write(true).open(OUTPUT) else {
        return;
    };
    child::serve(&mut std::io::stdin().lock(), &mut output).expect("the pool speaks the protocol");
}

fn options(processes_max: usize) -> DecoderOptions {
    options_of("decoder::tests::child_entry", processes_max)
}

/// With children that start in one of this binary's tests.
fn options_of(entry: &str, processes_max: usize) -> DecoderOptions {
    let binary = std::env::current_exe().expect("a test knows its binary");
    let entry = format!("exec \"$0\" {entry} --exact --ignored --nocapture 3>&1 >/dev/null");
    DecoderOptions {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), entry.into(), binary.into()],
        environment: vec![("RUST_TEST_THREADS".into(), "1".into())],
        processes_max,
        wait_max: Duration::from_secs(120),
        time_max: Duration::from_secs(60),
        memory_bytes_max: 512 << 20,
        limits: LIMITS,
    }
}

fn pool(options: DecoderOptions) -> DecoderPool {
    DecoderPool::new(options).expect("a thread can be started")
}

fn image(bytes: impl Into<Bytes>) -> InputImage {
    InputImage::parse(bytes.into(), &LIMITS).expect("the container is whole")
}

/// A plain grey PNG.
fn plain(width: u32, height: u32, grey: u8) -> InputImage {
    let mut bytes = Vec::new();
    let samples = vec![grey; (width * height) as usize];
    PngEncoder::new(&mut bytes)
        .write_image(&samples, width, height, ExtendedColorType::L8)
        .expect("the samples fit the sides");
    image(bytes)
}

/// Takes a child about half a second even where codecs are optimised.
fn slow() -> InputImage {
    plain(10_000, 5_000, 7)
}

/// The children that are not at work.
fn idle(pool: &DecoderPool) -> Vec<Pid> {
    let mut ids = Vec::new();
    pool.pool.retain(|child, _| {
        ids.extend(
            child
                .id()
                .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
        );
        true
    });
    ids
}

/// Starts the pool's only child.
async fn only_child(pool: &DecoderPool) -> Pid {
    pool.check(&plain(2, 2, 1))
        .await
        .expect("the picture is sound");
    let ids = idle(pool);
    assert_eq!(ids.len(), 1);
    ids[0]
}

async fn wait_until_gone(id: Pid) {
    let since = Instant::now();
    while test_kill_process(id).is_ok() {
        assert!(since.elapsed() < Duration::from_secs(10), "{id:?} lives on");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The kernel's letters for what each thread of a process does.
fn task_states(id: Pid) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", id.as_raw_nonzero()))
        .expect("the child isn't reaped yet");
    let stat = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stat.filter_map(|stat| Some(stat.rsplit_once(") ")?.1.split(' ').next()?.to_owned()))
        .collect()
}

/// Stops a child, and waits until each of its threads has.
async fn stop(id: Pid) {
    kill_process(id, Signal::STOP).expect("the child runs");
    while task_states(id).iter().any(|state| state != "T") {
        sleep(Duration::from_millis(1)).await;
    }
}

/// A sound picture, decoded.
async fn sound(pool: &DecoderPool, picture: &InputImage, side_max: u32) -> Decoded {
    let decoded = pool.decode(picture, side_max).await;
    decoded.expect("the picture is sound")
}

#[tokio::test]
async fn pictures_go_through_and_children_are_kept() {
    let pool = pool(options(1));
    let id = only_child(&pool).await;
    for grey in [0, 100, 255] {
        let pixels = sound(&pool, &plain(300, 200, grey), 30).await.pixels;
        assert_eq!((pixels.width(), pixels.height()), (30, 20));
        assert!(pixels.iter().all(|pixel| pixel == [grey, grey, grey, 255]));
    }
    let broken = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pictures/rgb.png"
    ));
    let mut broken = broken.to_vec();
    broken[60] ^= 0xff;
    let error = pool
        .check(&image(broken))
        .await
        .expect_err("the data is damaged");
    assert!(
        matches!(error, DecodeError::Image(ImageError::Damaged { .. })),
        "{error:?}"
    );
    assert!(!error.retryable());
    assert_eq!(error.image_code(), Some(ImageErrorCode::Invalid));
    assert_eq!(
        idle(&pool),
        [id],
        "neither a picture nor a refusal costs a child"
    );
}

#[tokio::test]
async fn what_was_checked_is_not_decoded_again() {
    let pool = pool(options(1)).remembering(30, |_| panic!("nothing was framed lately"));
    let picture = plain(300, 200, 9);
    pool.check(&picture).await.expect("the picture is sound");
    stop(idle(&pool)[0]).await;
    let decoded = pool.decode(&picture, 30).await;
    let pixels = decoded.expect("no child is asked").pixels;
    assert_eq!((pixels.width(), pixels.height()), (30, 20));
}

#[tokio::test]
async fn a_child_checks_the_limits_itself() {
    let mut options = options(1);
    options.limits.pixels_max = 99;
    let error = pool(options)
        .check(&plain(10, 10, 0))
        .await
        .expect_err("it is a pixel too large");
    assert!(
        matches!(
            error,
            DecodeError::Image(ImageError::TooManyPixels { pixels_max: 99, .. })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn children_are_limited() {
    let pool = pool(options(1));
    let id = only_child(&pool).await.as_raw_nonzero();
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).expect("the child runs");
    let of = |name: &str| {
        let line = limits
            .lines()
            .find(|line| line.starts_with(name))
            .expect("the kernel lists all limits");
        line[name.len()..]
            .split_whitespace()
            .next()
            .expect("a limit has a value")
            .to_owned()
    };
    assert_eq!(of("Max core file size"), "0");
    assert_eq!(of("Max file size"), "0");
    assert_eq!(of("Max open files"), "3");
    assert_eq!(of("Max cpu time"), (61 * 500).to_string());
    let data: u64 = of("Max data size")
        .parse()
        .expect("the data size is limited");
    assert!((512 << 20..600 << 20).contains(&data), "{data}");
    let environment = fs::read(format!("/proc/{id}/environ")).expect("the child runs");
    assert!(
        !String::from_utf8_lossy(&environment).contains("PATH=/"),
        "nothing is inherited"
    );
}

#[tokio::test]
async fn a_flood_of_memory_is_a_typed_refusal() {
    let mut options = options(1);
    options.memory_bytes_max = 24 << 20;
    let pool = pool(options);
    let error = pool
        .check(&slow())
        .await
        .expect_err("50 MB don't fit into 24 MiB");
    assert!(
        matches!(error, DecodeError::Image(ImageError::TooMuchMemory)),
        "{error:?}"
    );
    assert_eq!(error.image_code(), Some(ImageErrorCode::TooLarge));
    pool.check(&plain(1000, 1000, 3))
        .await
        .expect("smaller ones still fit");
}

#[tokio::test]
async fn an_allocation_that_aborts_the_child_is_the_same_refusal() {
    // The codec's own allocations aren't ours to check: a progressive JPEG's coefficients, 6 bytes a pixel,
    // in a process that has room for its pixels alone.
    let jpeg = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/pictures/progressive.jpg"
    ));
    let mut jpeg = jpeg.to_vec();
    let frame = jpeg
        .windows(2)
        .position(|marker| marker == [0xff, 0xc2])
        .expect("it is progressive");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x0f, 0xa0, 0x0f, 0xa0]);
    let mut options = options(1);
    options.memory_bytes_max = 64 << 20;
    let pool = pool(options);
    let before = only_child(&pool).await;
    let error = pool
        .check(&image(jpeg))
        .await
        .expect_err("48 + 96 MB don't fit into 64 MiB");
    assert!(
        matches!(error, DecodeError::Image(ImageError::TooMuchMemory)),
        "{error:?}"
    );
    assert_ne!(only_child(&pool).await, before, "the child is gone");
}

#[tokio::test]
async fn a_child_killed_at_work_is_replaced() {
    let pool = pool(options(1));
    let id = only_child(&pool).await;
    let slow = slow();
    let kill = async {
        sleep(Duration::from_millis(50)).await;
        kill_process(id, Signal::KILL).expect("the child runs");
    };
    let (answer, ()) = tokio::join!(pool.check(&slow), kill);
    let error = answer.expect_err("its child is dead");
    assert!(
        matches!(
            error,
            DecodeError::Crashed {
                ending: Ending::Signal(9)
            }
        ),
        "{error:?}"
    );
    assert!(error.retryable() && error.image_code().is_none());
    assert_ne!(only_child(&pool).await, id);
}

#[tokio::test]
async fn a_child_killed_while_idle_costs_nobody_an_error() {
    let pool = pool(options(1));
    let id = only_child(&pool).await;
    kill_process(id, Signal::KILL).expect("the child runs");
    while task_states(id) != ["Z"] {
        sleep(Duration::from_millis(1)).await;
    }
    assert_ne!(only_child(&pool).await, id);
}

#[tokio::test]
async fn a_hung_child_hits_the_time_limit_and_is_replaced() {
    let mut options = options(1);
    options.time_max = Duration::from_secs(2);
    let pool = pool(options);
    let id = only_child(&pool).await;
    stop(id).await;
    let since = Instant::now();
    let error = pool
        .decode(&plain(9, 9, 9), 9)
        .await
        .expect_err("a stopped child says nothing");
    assert!(matches!(error, DecodeError::TimedOut { .. }), "{error:?}");
    assert!(error.retryable());
    assert!(
        (2.0..4.0).contains(&since.elapsed().as_secs_f64()),
        "{:?}",
        since.elapsed()
    );
    wait_until_gone(id).await;
    assert_ne!(only_child(&pool).await, id);
}

#[tokio::test]
async fn callers_beyond_the_wait_are_told_that_it_is_busy() {
    let mut options = options(1);
    options.wait_max = Duration::from_millis(100);
    let pool = pool(options);
    let id = only_child(&pool).await;
    stop(id).await;
    let (first, second) = (plain(3, 3, 3), plain(4, 4, 4));
    let second = async {
        let answer = pool.check(&second).await;
        kill_process(id, Signal::CONT).expect("the child runs");
        answer
    };
    let (first, second) = tokio::join!(pool.check(&first), second);
    first.expect("it had the child, and waited for it");
    let error = second.expect_err("there is no other child");
    assert!(
        matches!(error, DecodeError::Busy { .. }) && error.retryable(),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_their_own_answers() {
    let pool = pool(options(3));
    let tasks = (1..=64_u8).map(|index| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let image = plain(u32::from(index) * 5, 40, index);
            let pixels = sound(&pool, &image, 4096).await.pixels;
            assert_eq!(pixels.width(), u32::from(index) * 5);
            assert!(pixels.iter().all(|pixel| pixel[0] == index));
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no task panics");
    }
    assert!((1..=3).contains(&idle(&pool).len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_leave_in_the_middle_leave_no_answer_behind() {
    let pool = pool(options(2));
    let large = Arc::new(plain(3_000, 2_000, 200));
    for round in 1..=20_u8 {
        // Leave at another point each time: while waiting, writing, decoding, reading.
        let leave_after = Duration::from_millis(u64::from(round) * 3);
        let left = tokio::time::timeout(leave_after, pool.decode(&large, 4096)).await;
        if let Ok(answer) = left {
            assert_eq!(answer.expect("the picture is sound").pixels.width(), 3_000);
        }
        let pixels = sound(&pool, &plain(30, 30, round), 30).await.pixels;
        assert_eq!(
            (pixels.width(), pixels.rgba()[0]),
            (30, round),
            "the answer is to this question"
        );
    }
}

#[tokio::test]
async fn a_child_is_replaced_after_its_term() {
    let pool = pool(options(1));
    let first = only_child(&pool).await;
    for _ in 1..process::PICTURES_MAX {
        assert_eq!(only_child(&pool).await, first);
    }
    assert_ne!(only_child(&pool).await, first);
    wait_until_gone(first).await;
}

#[tokio::test]
async fn a_child_at_work_dies_when_its_caller_leaves() {
    let pool = pool(options(1));
    let id = only_child(&pool).await;
    let slow = slow();
    let left = tokio::time::timeout(Duration::from_millis(50), pool.check(&slow)).await;
    assert!(left.is_err(), "the caller leaves first");
    wait_until_gone(id).await;
}

#[tokio::test]
async fn the_pool_s_end_is_its_children_s() {
    let pool = pool(options(1));
    let id = only_child(&pool).await;
    drop(pool);
    wait_until_gone(id).await;
}

#[tokio::test]
async fn programs_that_are_no_decoder_are_told() {
    let mut missing = options(1);
    missing.program = "/nowhere/orfeas".into();
    let error = pool(missing)
        .check(&plain(1, 1, 1))
        .await
        .expect_err("there is no such program");
    assert!(matches!(error, DecodeError::Spawn { .. }), "{error:?}");
    for (script, ending) in [
        ("exit 3", Ending::Exit(3)),
        (
            "echo 'Usage: something else entirely'; exec sleep 100",
            Ending::OutOfTurn,
        ),
    ] {
        let mut other = options(1);
        other.args = vec!["-c".into(), script.into()];
        let error = pool(other)
            .check(&plain(1, 1, 1))
            .await
            .expect_err("it doesn't speak the protocol");
        match error {
            DecodeError::Crashed { ending: found } => assert_eq!(found, ending, "{script}"),
            other => panic!("{script}: {other:?}"),
        }
    }
}
