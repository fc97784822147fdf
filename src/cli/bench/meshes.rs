//! The way of a mesh from its field to its files, step by step, without a model: the field is a formula, so that any
//! other program can do the same.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::{CommandError, output};
use crate::mesh::{
    Mesh,
    atlas::Atlas,
    clean::{CleanOptions, drop_specks},
    field::{FieldOptions, FieldSampler, Resolution},
    glb::{self, GlbOptions},
    normals::CREASE_DEG,
    obj,
    placement::{Frame, Placement, place},
    ply,
    preview::{
        self, PreviewOptions,
        turntable::{TurntableOptions, turntable},
    },
    quality::assess,
    simplify::simplify_surface,
    stl, three_mf,
};

/// Triangles after simplification, and pixels along a side of the texture.
const TRIANGLES: usize = 20_000;
const TEXTURE: u32 = 1024;

/// A gyroid's walls in a ball, a torus around it, and eight specks: the formula of `benches/meshes/field.py`, as logits
/// of a signed distance over 0.02, which is what models give.
fn field([x, y, z]: [f32; 3]) -> f32 {
    let length = |a: f32, b: f32, c: f32| (a * a + b * b + c * c).sqrt();
    let [kx, ky, kz] = [x, y, z].map(|along| 12.0 * along);
    let gyroid = kx.sin() * ky.cos() + ky.sin() * kz.cos() + kz.sin() * kx.cos();
    let walls = (0.65 - length(x, y, z)).min((0.5 - gyroid.abs()) / 12.0);
    let torus = 0.12 - length(length(x, 0.0, z) - 0.7, y, 0.0);
    let [a, b, c] = [x, y, z].map(|along| along.abs() - 0.85);
    let specks = 0.04 - length(a, b, c);
    50.0 * walls.max(torus).max(specks)
}

/// sRGB, 0.5 + 0.5 sin 8a along each axis, as `benches/meshes/field.py` has it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within a byte's range"
)]
fn color(p: &[f32; 3]) -> [u8; 3] {
    p.map(|along| (127.5 + 127.5 * (8.0 * along).sin()) as u8)
}

/// What a step took.
#[derive(Debug, Clone, Copy, Default)]
struct Took {
    wall: Duration,
    /// Of all threads: what a busy machine disturbs least.
    cpu: Duration,
}

/// Times steps.
struct Watch(Vec<(&'static str, Took)>);

impl Watch {
    fn time<T>(&mut self, step: &'static str, work: impl FnOnce() -> T) -> T {
        let (started, cpu) = (Instant::now(), cpu_time());
        let done = work();
        let took = Took {
            wall: started.elapsed(),
            cpu: cpu_time().saturating_sub(cpu),
        };
        match self.0.iter_mut().find(|(known, _)| *known == step) {
            // A step in several parts.
            Some((_, known)) => {
                known.wall += took.wall;
                known.cpu += took.cpu;
            }
            None => self.0.push((step, took)),
        }
        done
    }
}

/// Processor time of the threads of this process, as Linux counts it; none elsewhere.
fn cpu_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let of_thread = |thread: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(of_thread).sum())
}

/// How many bytes a file has.
fn length(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

/// One way of a mesh.
struct Run {
    steps: Vec<(&'static str, Took)>,
    triangles: usize,
    bytes: Vec<(&'static str, usize)>,
}

fn run_once(resolution: Resolution) -> Result<Run, CommandError> {
    let mut watch = Watch(Vec::new());
    let mut sampler = FieldSampler::new(FieldOptions::new(resolution, 0.0));
    // The formula's time is the model's, not ours.
    while let Some(points) = watch.time("sample", || sampler.request()) {
        let logits: Vec<f32> = points.into_iter().map(field).collect();
        watch.time("sample", || sampler.supply(&logits))?;
    }
    let surface = watch.time("extract", || sampler.into_surface())?;
    let triangles = surface.triangles().len();
    let (surface, _, _) = watch.time("clean", || drop_specks(surface, CleanOptions::default()));
    let colors = surface.positions().iter().map(color).collect();
    let full = surface.clone();
    let full = watch.time("normals", || Mesh::from_surface(full, Some(colors)))?;
    let scene = Placement {
        frame: Frame::Scene,
        size_mm: 1000.0,
    };
    let full = Arc::new(watch.time("place", || place(&full, scene)));
    watch.time("report", || assess(&full));
    watch.time("preview", || {
        preview::png(&full, &PreviewOptions::default())
    })?;
    watch.time("turntable", || {
        turntable(&full, &TurntableOptions::default())
    })?;
    let print = Placement {
        frame: Frame::Print,
        size_mm: 100.0,
    };
    let printed = place(&full, print);
    let plain = GlbOptions::default();
    let quantized = GlbOptions {
        quantize: true,
        ..plain
    };
    let mut bytes = vec![
        (
            "glb",
            length(&watch.time("glb", || glb::write(&full, plain))?),
        ),
        (
            "glb quantized",
            length(&watch.time("glb quantized", || glb::write(&full, quantized))?),
        ),
        ("obj", watch.time("obj", || obj::write(&full))?.len()),
        ("ply", watch.time("ply", || ply::write(&full))?.len()),
        ("stl", watch.time("stl", || stl::write(&printed))?.len()),
        (
            "3mf",
            watch.time("3mf", || three_mf::write(&printed))?.len(),
        ),
    ];
    let (surface, _) = watch.time("simplify", || simplify_surface(surface, TRIANGLES));
    let atlas = watch.time("atlas", || Atlas::of(&surface, TEXTURE))?;
    let points = watch.time("texels", || atlas.points());
    let colors: Vec<_> = points.iter().map(color).collect();
    let texture = watch.time("paint", || atlas.paint(&colors))?;
    let mesh = Mesh::from_surface(surface, None)?;
    let mesh = watch.time("creases", || mesh.with_creases(CREASE_DEG));
    let mesh = Arc::new(place(&mesh.with_texture(texture)?, scene));
    bytes.push((
        "glb baked",
        length(&watch.time("glb baked", || glb::write(&mesh, plain))?),
    ));
    Ok(Run {
        steps: watch.0,
        triangles,
        bytes,
    })
}

/// The most memory that the process has held since the last call, in bytes, as Linux counts it.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    // Counts anew from here; where that is not allowed, the figure is that of all runs so far.
    let _ = fs::write("/proc/self/clear_refs", "5");
    Some(kib * 1024)
}

/// Makes meshes from fields of these resolutions, each so often, and shows the quickest of each step.
///
/// # Errors
/// When a resolution is out of range.
pub(super) fn run(resolutions: &[u32], repeat: usize) -> Result<Vec<Value>, CommandError> {
    let mut rows = Vec::new();
    for &samples in resolutions {
        let resolution = Resolution::new(samples)?;
        peak_memory();
        let mut best = run_once(resolution)?;
        for _ in 1..repeat {
            let next = run_once(resolution)?;
            for (step, again) in best.steps.iter_mut().zip(next.steps) {
                step.1.wall = step.1.wall.min(again.1.wall);
                step.1.cpu = step.1.cpu.min(again.1.cpu);
            }
        }
        let ms = |of: fn(&Took) -> Duration| -> Value {
            let steps = best.steps.iter();
            let of_step = |(step, took): &(&str, Took)| {
                ((*step).to_owned(), json!(of(took).as_secs_f64() * 1000.0))
            };
            Value::Object(steps.map(of_step).collect())
        };
        let bytes: serde_json::Map<_, _> = best
            .bytes
            .iter()
            .map(|(file, bytes)| ((*file).to_owned(), json!(bytes)))
            .collect();
        rows.push(json!({
            "resolution": samples, "triangles": best.triangles, "ms": ms(|took| took.wall), "cpuMs": ms(|took| took.cpu), "bytes": bytes,
            "peakMemoryBytes": peak_memory(),
        }));
    }
    Ok(rows)
}

/// One line a step, one column a resolution.
pub(super) fn table(rows: &[Value]) {
    let heading: Vec<_> = rows
        .iter()
        .map(|row| format!("{:>12}", row["resolution"].to_string()))
        .collect();
    output::line(&format!("{:<14}{}", "processor, ms", heading.concat()));
    let Some(first) = rows.first().and_then(|row| row["cpuMs"].as_object()) else {
        return;
    };
    for step in first.keys() {
        let cells: Vec<_> = rows
            .iter()
            .map(|row| format!("{:>12}", output::number(&row["cpuMs"][step], 1)))
            .collect();
        output::line(&format!("{step:<14}{}", cells.concat()));
    }
}
