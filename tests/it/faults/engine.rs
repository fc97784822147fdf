//! Faults in passes of the engine, on a processor that shares passes, and on a GPU where there is one.

use futures_util::future::join_all;
use orfeas::inference::{
    backend::{FieldValues, Want},
    error::{EngineError, Operation},
    handle::Codes,
};
use tempfile::TempDir;

use super::{Fault, GOOD, models, planes};
use crate::harness::engines::{Bench, BenchOptions};

/// How far a logit may move by the company of its row. The logits of this model rise by 50 for a unit of length.
const MOVE_MAX: f32 = 2e-3;
/// So many points that whoever asks later joins the passes: ten of them.
const MANY: usize = 160_000;

fn options(measurements: Option<&TempDir>) -> BenchOptions {
    BenchOptions {
        measurements: measurements.map(|folder| folder.path().to_owned()),
        ..BenchOptions::new(&models(), "faulty")
    }
}

fn points(count: usize) -> Vec<[f32; 3]> {
    // Over and over a plane through the ball, and its surface with it.
    let along = |at: usize| at as f32 / 99.5 - 1.0;
    let point = |at: usize| [along(at % 200), along(at / 200 % 200), 0.1];
    (0..count).map(point).collect()
}

async fn asked(bench: &Bench, codes: &Codes, count: usize) -> Result<FieldValues, EngineError> {
    let points = points(count);
    bench
        .engine
        .query(codes, points, Want::LogitsAndColors)
        .await
}

/// The pictures' fields, each encoded and asked alone.
async fn alone(bench: &Bench, images: &[Vec<f32>]) -> Vec<FieldValues> {
    let mut fields = Vec::new();
    for image in images {
        let codes = bench.encode(std::slice::from_ref(image)).await.remove(0);
        fields.push(asked(bench, &codes.unwrap(), MANY).await.unwrap());
    }
    fields
}

fn assert_near(values: &FieldValues, expected: &FieldValues) {
    assert_eq!(values.logits.len(), expected.logits.len());
    let pairs = |a: &[f32], b: &[f32]| {
        let moved = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        moved.fold(0.0, f32::max)
    };
    assert!(pairs(&values.logits, &expected.logits) <= MOVE_MAX);
    let (rgb, expected) = (values.rgb.as_flattened(), expected.rgb.as_flattened());
    assert!(pairs(rgb, expected) <= MOVE_MAX);
}

/// Whether an error is the one that the fault asks for.
fn is_of(fault: Fault, error: &EngineError) -> bool {
    let encodes = matches!(
        fault,
        Fault::EncodeMemory | Fault::EncodeNan | Fault::EncodeError
    );
    let expected = if encodes {
        Operation::Encode
    } else {
        Operation::Query
    };
    let operation = match (fault, error) {
        (Fault::EncodeMemory | Fault::QueryMemory, EngineError::OutOfMemory { operation, .. })
        | (Fault::EncodeNan | Fault::QueryNan, EngineError::NonFinite { operation })
        | (Fault::EncodeError | Fault::QueryError, EngineError::Torch { operation, .. }) => {
            *operation
        }
        _ => return false,
    };
    operation == expected
}

/// On a GPU where there is one; the word that begins these tests' names lets them be run apart.
async fn on_a_gpu<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    if let Some(bench) = options(None).on_a_gpu() {
        test(bench).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shares_a_pass_with_a_poisoned_picture_gets_what_it_gets_alone() {
    poisoned(options(None).sharing()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_gpu_a_poisoned_picture_fails_alone() {
    on_a_gpu(poisoned).await;
}

async fn poisoned(bench: Bench) {
    let good: Vec<_> = GOOD
        .iter()
        .zip(3..)
        .map(|(&colour, half)| planes(colour, half))
        .collect();
    let expected = alone(&bench, &good).await;
    assert_ne!(expected[0], expected[1], "the pictures differ");
    let images_max = bench.images_max();
    for fault in Fault::ALONE {
        let mut pictures = good.clone();
        pictures.insert(2, planes(fault.colour(), 5));
        let codes = bench.encode(&pictures).await;
        // Those who have codes ask all at once, for many passes.
        let fields = join_all(codes.into_iter().map(async |codes| match codes {
            Ok(codes) => asked(&bench, &codes, MANY).await,
            Err(error) => Err(error),
        }));
        let mut fields = fields.await;
        let poisoned = fields.remove(2).unwrap_err();
        assert!(is_of(fault, &poisoned), "{fault:?}: {poisoned:?}");
        for (field, expected) in fields.iter().zip(&expected) {
            assert_near(field.as_ref().unwrap(), expected);
        }
    }
    let device = &bench.engine.devices()[0];
    assert_eq!(device.lost, None);
    assert_eq!(
        device.batch_images_max, images_max,
        "a picture that fits nowhere says nothing of the others' number"
    );
    if let Some(passes) = bench.log() {
        let together = passes.encodes.iter().filter(|&&images| images == 5);
        assert_eq!(together.count(), Fault::ALONE.len(), "{passes:?}");
        let shared = passes.queries.iter().filter(|(count, _)| *count >= 4);
        assert!(shared.count() >= Fault::ALONE.len(), "{passes:?}");
    }
    bench.engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_too_large_for_the_memory_is_halved_and_stays_so_after_a_restart() {
    let kept = tempfile::tempdir().unwrap();
    let options = options(Some(&kept));
    crowded(|| Some(options.sharing())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_gpu_a_batch_too_large_for_the_memory_stays_halved_after_a_restart() {
    let kept = tempfile::tempdir().unwrap();
    let options = options(Some(&kept));
    crowded(|| options.on_a_gpu()).await;
}

async fn crowded(start: impl Fn() -> Option<Bench>) {
    let Some(bench) = start() else { return };
    assert_eq!(bench.images_max(), 8, "as in the manifest");
    let crowd = vec![planes(Fault::Crowd.colour(), 5); 4];
    for codes in bench.encode(&crowd).await {
        asked(&bench, &codes.unwrap(), 1000).await.unwrap();
    }
    assert_eq!(bench.images_max(), 2);
    if let Some(passes) = bench.log() {
        assert_eq!(passes.encodes, [4, 2, 2]);
    }
    bench.engine.stop().await;

    let bench = start().unwrap();
    assert_eq!(bench.images_max(), 2, "it is known at the next start");
    for codes in bench.encode(&crowd).await {
        codes.unwrap();
    }
    if let Some(passes) = bench.log() {
        assert_eq!(passes.encodes, [2, 2], "what failed is not tried again");
    }
    bench.engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mattes_too_many_for_the_memory_lower_the_ceiling_too() {
    let kept = tempfile::tempdir().unwrap();
    let options = options(Some(&kept));
    mattes(|| Some(options.sharing())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_gpu_mattes_too_many_for_the_memory_lower_the_ceiling_too() {
    let kept = tempfile::tempdir().unwrap();
    let options = options(Some(&kept));
    mattes(|| options.on_a_gpu()).await;
}

async fn mattes(start: impl Fn() -> Option<Bench>) {
    let Some(bench) = start() else { return };
    let picture = planes(Fault::Crowd.colour(), 5);
    // The first may be under way before the others are there; of seven, more than two are left in any case.
    let mattes = join_all((0..7).map(|_| bench.engine.matte("faulty", picture.clone()))).await;
    for matte in mattes {
        let alpha = matte.unwrap();
        assert!(alpha.iter().all(|value| (0.0..=1.0).contains(value)));
    }
    // The last answer may be there before its lesson.
    bench.engine.stop().await;
    let learned = bench.images_max();
    assert!(learned <= 2, "{learned}");
    if let Some(passes) = bench.log() {
        assert!(passes.mattes.iter().any(|&images| images > 2), "{passes:?}");
    }
    let bench = start().unwrap();
    assert_eq!(bench.images_max(), learned);
    bench.engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_too_large_for_the_memory_are_asked_in_smaller_passes_from_then_on() {
    let kept = tempfile::tempdir().unwrap();
    let options = options(Some(&kept));
    heavy(|| Some(options.sharing())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_gpu_queries_too_large_for_the_memory_are_asked_in_smaller_passes() {
    let kept = tempfile::tempdir().unwrap();
    let options = options(Some(&kept));
    heavy(|| options.on_a_gpu()).await;
}

async fn heavy(start: impl Fn() -> Option<Bench>) {
    let pictures = [4, 6].map(|half| planes(Fault::Heavy.colour(), half));
    let mut fields = Vec::new();
    for failing in [1, 0] {
        let Some(bench) = start() else { return };
        let codes = bench.encode(&pictures).await;
        let asked = codes
            .iter()
            .map(|codes| asked(&bench, codes.as_ref().unwrap(), MANY));
        fields.extend(join_all(asked).await.into_iter().map(Result::unwrap));
        if let Some(passes) = bench.log() {
            let too_large = passes.queries.iter().filter(|(_, points)| *points > 8192);
            // The first that fails teaches it, and the next start knows.
            assert_eq!(too_large.count(), failing, "{passes:?}");
        }
        bench.engine.stop().await;
    }
    assert_near(&fields[0], &fields[2]);
    assert_near(&fields[1], &fields[3]);
    assert_ne!(fields[0], fields[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_lost_in_an_encode_tells_who_took_part() {
    lost(options(None).sharing(), Fault::EncodeLost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_lost_in_a_query_tells_who_took_part() {
    lost(options(None).sharing(), Fault::QueryLost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_gpu_a_lost_device_tells_who_took_part() {
    on_a_gpu(|bench| lost(bench, Fault::EncodeLost)).await;
    on_a_gpu(|bench| lost(bench, Fault::QueryLost)).await;
}

async fn lost(bench: Bench, fault: Fault) {
    let took_part = |error: &EngineError| match error {
        EngineError::DeviceLost { took_part, .. } => *took_part,
        other => panic!("{other:?}"),
    };
    let waits = bench.encode(&[planes(GOOD[0], 5)]).await.remove(0).unwrap();
    let pair = [planes(fault.colour(), 5), planes(GOOD[1], 5)];
    let codes = bench.encode(&pair).await;
    if fault == Fault::EncodeLost {
        for codes in &codes {
            assert!(took_part(codes.as_ref().unwrap_err()));
        }
    } else {
        let codes = codes.iter().map(|codes| codes.as_ref().unwrap());
        let fields = join_all(codes.map(|codes| asked(&bench, codes, MANY))).await;
        assert!(took_part(fields[0].as_ref().unwrap_err()));
        // It may have come too late for the pass.
        took_part(fields[1].as_ref().unwrap_err());
    }
    assert!(!bench.engine.can_compute());
    let late = asked(&bench, &waits, 10).await.unwrap_err();
    assert!(!took_part(&late), "{late:?}");
    let refused = bench.engine.enqueue(bench.request(planes(GOOD[2], 5)));
    assert!(!took_part(&refused.unwrap_err()));
    bench.engine.stop().await;
}
