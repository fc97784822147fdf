//! The shipped model through the engine, on whatever device this machine has.

use std::{path::Path, sync::OnceLock};

use tch::{Device, Kind};

use super::{
    super::{
        backend::{FieldValues, Want},
        batcher::BatchLimits,
        catalog::Catalog,
        cuda,
        device::DeviceChoice,
        engine::{EncodeRequest, Engine, EngineOptions},
        handle::Codes,
        sampling::SamplingOptions,
    },
    check::inputs::cloud,
    message::{REASON_CHARS_MAX, classify, reason_of},
    *,
};

mod sharing;
mod stepping;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
const MODEL: &str = "orfeas-mini";

fn options(models: &Path, device: DeviceChoice) -> EngineOptions {
    EngineOptions {
        models_dir: models.to_owned(),
        default_model: Some(MODEL.into()),
        device,
        limits: BatchLimits::default(),
        dynamic_scaling: true,
        cpu_threads: None,
        measurements: None,
    }
}

/// One engine on the CPU for all tests that leave it as it is.
fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let start = || Engine::start(options(Path::new(MODELS), DeviceChoice::Cpu)).unwrap();
    ENGINE.get_or_init(start).clone()
}

/// A shaded ball of a colour on the model's background, `radius` of half the picture.
fn ball(radius: f32, colour: [f32; 3]) -> Vec<f32> {
    let side = 192;
    let mut planes = vec![0.5; 3 * side * side];
    for row in 0..side {
        for column in 0..side {
            let unit = |at: usize| (at as f32 + 0.5) / side as f32 * 2.0 - 1.0;
            let (x, y) = (unit(column) / radius, -unit(row) / radius);
            let across = x * x + y * y;
            if across < 1.0 {
                let z = (1.0 - across).sqrt();
                let light = 0.35 + 0.65 * (0.4 * x + 0.6 * y + 0.7 * z).max(0.0);
                for (plane, part) in colour.iter().enumerate() {
                    planes[(plane * side + row) * side + column] = (part * light).clamp(0.0, 1.0);
                }
            }
        }
    }
    planes
}

fn request(image: Vec<f32>) -> EncodeRequest {
    EncodeRequest {
        model: MODEL.into(),
        resolution: 128,
        rank: 0,
        sampling: SamplingOptions::default(),
        image: image.into(),
    }
}

async fn encode(engine: &Engine, image: Vec<f32>) -> Codes {
    engine
        .enqueue(request(image))
        .unwrap()
        .finished()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_red_ball_becomes_something_red_and_solid() {
    let engine = engine();
    let codes = encode(&engine, ball(0.86, [0.9, 0.15, 0.1])).await;
    let probes = vec![
        [0.0, 0.0, 0.0],
        [0.2, 0.1, 0.1],
        [0.95, 0.95, 0.95],
        [-0.9, 0.9, 0.0],
        [0.0, 0.0, 0.5],
    ];
    let values = engine
        .query(&codes, probes, Want::LogitsAndColors)
        .await
        .unwrap();
    assert!(
        values.logits[0] > 0.0 && values.logits[1] > 0.0,
        "the inside: {:?}",
        values.logits
    );
    assert!(
        values.logits[2] < 0.0 && values.logits[3] < 0.0,
        "the outside: {:?}",
        values.logits
    );
    let [red, green, blue] = values.rgb[4];
    assert!(red > 1.5 * green && red > 1.5 * blue, "{:?}", values.rgb);

    let alpha = engine
        .matte(MODEL, ball(0.86, [0.9, 0.15, 0.1]))
        .await
        .unwrap();
    assert_eq!(alpha.len(), 192 * 192);
    assert!(
        alpha[96 * 192 + 96] > 0.5 && alpha[0] < 0.5,
        "{} {}",
        alpha[96 * 192 + 96],
        alpha[0]
    );
}

/// The fields of five pictures, each encoded alone, and then all at once in shared batches.
async fn alone_and_together(engine: &Engine) -> Vec<(FieldValues, FieldValues)> {
    let pictures: Vec<_> = (0..5)
        .map(|at| {
            ball(
                0.5 + 0.08 * at as f32,
                [0.2 * at as f32, 0.5, 1.0 - 0.2 * at as f32],
            )
        })
        .collect();
    // More than one pass, and no multiple of it.
    let points = cloud(7, 40_000);
    let mut alone = Vec::new();
    for picture in &pictures {
        let codes = encode(engine, picture.clone()).await;
        alone.push(
            engine
                .query(&codes, points.clone(), Want::LogitsAndColors)
                .await
                .unwrap(),
        );
    }
    assert_ne!(alone[0], alone[1], "the pictures differ");

    let together = pictures.into_iter().map(|picture| {
        let (engine, points) = (engine.clone(), points.clone());
        tokio::spawn(async move {
            let mut ticket = engine.enqueue(request(picture)).unwrap();
            let start = ticket.started().await.unwrap();
            let codes = ticket.finished().await.unwrap();
            (
                start.images,
                engine
                    .query(&codes, points, Want::LogitsAndColors)
                    .await
                    .unwrap(),
            )
        })
    });
    let together: Vec<_> = together.collect();
    let mut largest = 0;
    let mut pairs = Vec::new();
    for (task, alone) in together.into_iter().zip(alone) {
        let (images, values) = task.await.unwrap();
        largest = largest.max(images);
        pairs.push((alone, values));
    }
    assert!(largest > 1, "nobody shared a batch, so nothing was shown");
    pairs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversion_does_not_depend_on_its_neighbours() {
    for (alone, together) in alone_and_together(&engine()).await {
        assert!(together == alone, "a neighbour changed the field");
    }
}

/// How far a logit may move on a GPU when a picture is encoded among others: kernels of other shapes add in another
/// order, in half precision. The field is trained towards -distance / 0.02 (the model's card), so this moves the surface
/// by at most 0.0016, a tenth of a voxel at resolution 128.
const LOGIT_TOLERANCE: f32 = 0.08;

/// On a machine with a GPU; elsewhere there is nothing to compare.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_gpu_neighbours_move_the_field_within_its_tolerance() {
    let chosen = Engine::start(options(Path::new(MODELS), DeviceChoice::Auto)).unwrap();
    if chosen.devices()[0].id == DeviceId::Cpu {
        return;
    }
    let (mut moved, mut turned) = (0.0_f32, 0);
    for (alone, together) in alone_and_together(&chosen).await {
        for (one, other) in alone.logits.iter().zip(&together.logits) {
            // Far from the surface only the sign counts.
            if one.abs() < 4.0 {
                moved = moved.max((one - other).abs());
            }
            turned += usize::from((*one > 0.0) != (*other > 0.0));
        }
    }
    assert!(
        moved <= LOGIT_TOLERANCE && turned <= 20,
        "logits moved by up to {moved}, {turned} of 200,000 points changed sides"
    );
}

#[tokio::test]
async fn the_engine_survives_callers_that_leave() {
    let engine = engine();
    let codes = encode(&engine, ball(0.7, [0.3; 3])).await;
    let before = engine
        .query(&codes, cloud(3, 100), Want::Logits)
        .await
        .unwrap();
    for _ in 0..3 {
        drop(engine.enqueue(request(ball(0.6, [0.1; 3]))).unwrap());
        let query = engine.query(&codes, cloud(3, 500_000), Want::Logits);
        assert!(
            tokio::time::timeout(Duration::from_millis(5), query)
                .await
                .is_err(),
            "it takes longer than this"
        );
    }
    assert_eq!(
        engine
            .query(&codes, cloud(3, 100), Want::Logits)
            .await
            .unwrap(),
        before
    );
}

#[tokio::test]
async fn values_that_are_not_finite_are_an_error() {
    let engine = engine();
    let poisoned = engine
        .enqueue(request(vec![f32::NAN; 3 * 192 * 192]))
        .unwrap();
    let sound = engine.enqueue(request(ball(0.8, [0.5; 3]))).unwrap();
    let error = poisoned.finished().await.unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::NonFinite {
                operation: Operation::Encode
            }
        ),
        "{error:?}"
    );
    sound.finished().await.unwrap();
}

#[tokio::test]
async fn stopping_ends_the_threads() {
    let engine = Engine::start(options(Path::new(MODELS), DeviceChoice::Cpu)).unwrap();
    let codes = encode(&engine, ball(0.8, [0.5; 3])).await;
    engine.stop().await;
    let error = engine
        .query(&codes, cloud(1, 10), Want::Logits)
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::Stopped) && error.retryable());
}

/// On a machine with a GPU this holds its field against the CPU's, else it shows that `auto` takes the CPU.
#[tokio::test]
async fn the_device_of_choice_agrees_with_the_cpu() {
    let chosen = Engine::start(options(Path::new(MODELS), DeviceChoice::Auto)).unwrap();
    let picture = ball(0.86, [0.2, 0.6, 0.3]);
    let points = cloud(11, 20_000);
    let mut fields = Vec::new();
    for engine in [&engine(), &chosen] {
        let codes = encode(engine, picture.clone()).await;
        fields.push(
            engine
                .query(&codes, points.clone(), Want::Logits)
                .await
                .unwrap()
                .logits,
        );
    }
    let signs = fields[0]
        .iter()
        .zip(&fields[1])
        .filter(|(cpu, other)| (**cpu > 0.0) == (**other > 0.0))
        .count();
    if chosen.devices()[0].id == DeviceId::Cpu {
        assert_eq!(fields[0], fields[1], "the same device gives the same field");
    } else {
        // Half precision against single: the model's card states 99.99% for its own rounding.
        assert!(
            signs * 1000 >= points.len() * 995,
            "{signs} of {} signs agree",
            points.len()
        );
    }
}

/// A models folder with the shipped manifest and another file, its hash set right.
fn with_file(make: impl FnOnce(&Path)) -> tempfile::TempDir {
    let models = tempfile::tempdir().unwrap();
    let folder = models.path().join(MODEL);
    std::fs::create_dir(&folder).unwrap();
    make(&folder.join("model.pt"));
    let shipped =
        std::fs::read_to_string(Path::new(MODELS).join(MODEL).join("model.toml")).unwrap();
    let mut table: toml::Table = shipped.parse().unwrap();
    table["file"]["sha256"] = toml::Value::String("0".repeat(64));
    std::fs::write(folder.join("model.toml"), table.to_string()).unwrap();
    let zeroed = Manifest::load(&folder).unwrap();
    if let Err(ModelError::Hash { actual, .. }) = zeroed.verified_file(&folder) {
        table["file"]["sha256"] = toml::Value::String(actual);
        std::fs::write(folder.join("model.toml"), table.to_string()).unwrap();
    }
    models
}

/// A TorchScript file with one method, which does `body` to its images.
fn one_method(path: &Path, method: &str, body: impl Fn(&Tensor) -> Tensor) {
    let images = Tensor::zeros([1, 3, 192, 192], (Kind::Float, Device::Cpu));
    let mut traced = |inputs: &[Tensor]| vec![body(&inputs[0])];
    CModule::create_by_tracing("Broken", method, &[images], &mut traced)
        .unwrap()
        .save(path)
        .unwrap();
}

/// Why the engine does not take a model.
fn refusal(models: &Path) -> String {
    match Engine::start(options(models, DeviceChoice::Cpu)) {
        Err(EngineError::ModelUnavailable {
            source: Some(source),
            ..
        }) => source.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_that_breaks_its_contract_is_refused_with_the_reason() {
    let no_encode = with_file(|path| one_method(path, "forward", |images| images.shallow_clone()));
    let no_query = with_file(|path| one_method(path, "encode", |images| images.flatten(1, -1)));
    let no_rows = with_file(|path| one_method(path, "encode", |images| images.flatten(0, -1)));
    let nan =
        with_file(|path| one_method(path, "encode", |images| images.flatten(1, -1) / 0.0 * 0.0));
    let no_script = with_file(|path| std::fs::write(path, "no archive").unwrap());
    let cases = [
        (&no_encode, "Method 'encode' is not defined."),
        (&no_query, "Method 'query' is not defined."),
        (&no_rows, "encode gave codes of shape"),
        (&nan, "encode gave values that are not finite"),
        (&no_script, "could not be loaded"),
    ];
    for (models, expected) in cases {
        let reason = refusal(models.path());
        assert!(reason.contains(expected), "{reason}");
        assert!(
            !reason.contains("frame #") && !reason.contains(".cpp"),
            "{reason}"
        );
    }
}

#[test]
fn another_file_than_the_manifests_is_refused() {
    let models = with_file(|path| one_method(path, "encode", |images| images.shallow_clone()));
    let file = models.path().join(MODEL).join("model.pt");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(refusal(models.path()).contains("has sha256"));
    assert!(
        Catalog::find(models.path()).unwrap().served().is_empty(),
        "it is not even loaded"
    );
}

#[test]
fn a_gpu_that_is_not_there_is_refused_with_advice() {
    if cuda::driver().is_ok() {
        // The other half of this is `the_device_of_choice_agrees_with_the_cpu`.
        assert!(devices::choose(&DeviceChoice::CudaList(vec![999])).is_err());
        return;
    }
    for choice in [DeviceChoice::Cuda, DeviceChoice::CudaList(vec![0])] {
        match devices::choose(&choice) {
            Err(EngineError::NoDevice { wanted, reason }) => {
                assert_eq!(wanted, choice.to_string());
                assert!(reason.contains("libtorch"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        devices::choose(&DeviceChoice::Auto).unwrap(),
        [DeviceId::Cpu]
    );
}

#[test]
fn messages_of_libtorch_are_told_apart_and_cut_short() {
    let device = DeviceId::Cuda(0);
    let told = |message: &str| classify(message, device, Operation::Query);
    let memory = "Internal torch error: CUDA out of memory. Tried to allocate 2.00 GiB.\nException raised from malloc";
    assert!(matches!(told(memory), EngineError::OutOfMemory { .. }));
    let cpu = "Internal torch error: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory";
    assert!(matches!(told(cpu), EngineError::OutOfMemory { .. }));
    assert!(matches!(
        told("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"),
        EngineError::OutOfMemory { .. }
    ));
    let lost = "Internal torch error: CUDA error: an illegal memory access was encountered\nmore";
    assert!(matches!(told(lost), EngineError::DeviceLost { .. }));
    let script = "Internal torch error: The following operation failed in the TorchScript interpreter.\n\
                  Traceback of TorchScript (most recent call last):\n  File \"code/x.py\", line 15, in encode\n\
                  RuntimeError: expected 3 channels, but got 2\n\nException raised from f at a.cpp:1\nframe #0: y";
    match told(script) {
        EngineError::Torch { reason, .. } => {
            assert_eq!(reason, "RuntimeError: expected 3 channels, but got 2")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(reason_of(""), "no reason was given");
    assert_eq!(reason_of(&"x".repeat(9000)).len(), REASON_CHARS_MAX);
}
