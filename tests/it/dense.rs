//! Coarse-to-fine sampling against the dense grid, on real pictures through the shipped model.
//!
//! The model is asked once for every point of the grid. The sampler then gets its answers from that table, first as
//! conversions have it, then with a slope that lets it pass no cell by, which is the dense grid. So only the method
//! differs, neither the field nor the extraction.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use orfeas::{
    app,
    conversion::options::ConversionOptions,
    inference::backend::Want,
    mesh::{
        MeshError,
        clean::{CleanOptions, drop_specks},
        field::{FieldOptions, FieldSampler, Resolution},
        surface::Surface,
    },
    pipeline::{self, Job, Tools},
};

use crate::harness::{PROGRAM, World, engine, pictures};

/// Splits every cell, whatever a field may be.
const EVERY_CELL: f32 = 1e30;
/// Slopes that the long form tries, that of conversions among them.
const SLOPES: [f32; 5] = [0.0, 1.5, 3.0, FieldOptions::LOGIT_SLOPE, 12.0];
/// Beside the shipped pictures, those of this folder are tried by the long form.
const MORE_PICTURES: &str = "ORFEAS_TEST_PICTURES";

/// A field's logit at every point of the grid, x running fastest.
struct Table {
    axis: Vec<f32>,
    logits: Vec<f32>,
    iso: f32,
}

impl Table {
    /// Asks the model for all of them.
    async fn of(tools: &Tools, picture: &[u8], resolution: u32) -> Self {
        let job = Job {
            picture: Bytes::copy_from_slice(picture),
            model: tools.engine.default_model().to_owned(),
            options: ConversionOptions {
                resolution: Some(resolution),
                ..ConversionOptions::default()
            },
            rank: 0,
            name: None,
        };
        let (request, field) = pipeline::prepared(tools, &job).await.unwrap();
        let codes = tools.engine.enqueue(request).unwrap().finished().await;
        let count = resolution as usize;
        #[expect(clippy::cast_possible_truncation, reason = "as the sampler has it")]
        let axis: Vec<f32> = (0..count)
            .map(|at| (-1.0 + 2.0 * at as f64 / (count - 1) as f64) as f32)
            .collect();
        let points = (0..count.pow(3)).map(|at| {
            [at % count, at / count % count, at / (count * count)].map(|along| axis[along])
        });
        let points = points.collect();
        let values = tools
            .engine
            .query(&codes.unwrap(), points, Want::Logits)
            .await
            .unwrap();
        Self {
            axis,
            logits: values.logits,
            iso: field.iso,
        }
    }

    /// The number of the sample, or of the cell, at a coordinate.
    fn along(&self, coordinate: f64) -> f64 {
        (coordinate + 1.0) / 2.0 * (self.axis.len() - 1) as f64
    }

    /// Samples it as conversions do, with another slope. The surface, and how many points in how many requests it took.
    fn sampled(&self, logit_slope: f32) -> (Result<Surface, MeshError>, usize, usize) {
        let resolution = u32::try_from(self.axis.len()).unwrap();
        let mut sampler = FieldSampler::new(FieldOptions {
            logit_slope,
            ..FieldOptions::new(Resolution::new(resolution).unwrap(), self.iso)
        });
        let (count, mut requests) = (self.axis.len(), 0);
        while let Some(points) = sampler.request() {
            let logit = |point: [f32; 3]| {
                let [x, y, z] = point.map(|along| {
                    let at = self.along(along.into()).round() as usize;
                    assert_eq!(self.axis[at], along, "it asks for points of the grid alone");
                    at
                });
                self.logits[x + count * (y + count * z)]
            };
            let logits: Vec<f32> = points.into_iter().map(logit).collect();
            sampler.supply(&logits).unwrap();
            requests += 1;
        }
        let points = sampler.points_supplied();
        (sampler.into_surface(), points, requests)
    }

    /// The cells that a surface passes.
    fn cells(&self, surface: &Surface) -> HashSet<[usize; 3]> {
        let cell = |triangle: &[u32; 3]| {
            let corners = triangle.map(|vertex| surface.positions()[vertex as usize]);
            [0, 1, 2].map(|axis| {
                let sum: f64 = corners.iter().map(|corner| f64::from(corner[axis])).sum();
                self.along(sum / 3.0).floor() as usize
            })
        };
        surface.triangles().iter().map(cell).collect()
    }
}

/// How a surface differs from the dense one.
#[derive(Debug, Default, Clone, Copy)]
struct Difference {
    /// Cells that the dense surface passes.
    cells: usize,
    /// Those of them that the other one leaves out.
    missed: usize,
    /// Cells that only the other one passes.
    made_up: usize,
    /// The distance of the corner of the dense surface that is farthest from the other one, in cells.
    farthest_cells: f64,
    /// Whether both are the same, bit for bit.
    is_same: bool,
    /// Whether they are once specks are dropped, as every conversion does.
    is_same_clean: bool,
    points: usize,
    requests: usize,
}

fn difference(table: &Table, dense: &Surface, slope: f32) -> Difference {
    let (surface, points, requests) = table.sampled(slope);
    let dense_cells = table.cells(dense);
    let all = Difference {
        cells: dense_cells.len(),
        missed: dense_cells.len(),
        farthest_cells: f64::INFINITY,
        points,
        requests,
        ..Difference::default()
    };
    let Ok(surface) = surface else { return all };
    let cells = table.cells(&surface);
    let clean = |surface: &Surface| drop_specks(surface.clone(), CleanOptions::default()).0;
    Difference {
        missed: dense_cells.difference(&cells).count(),
        made_up: cells.difference(&dense_cells).count(),
        farthest_cells: farthest(dense, &surface) * (table.axis.len() - 1) as f64 / 2.0,
        is_same: surface == *dense,
        is_same_clean: clean(&surface) == clean(dense),
        ..all
    }
}

/// The distance of that corner of `dense` from the nearest of `other` which is farthest.
fn farthest(dense: &Surface, other: &Surface) -> f64 {
    let bits = |position: &[f32; 3]| position.map(f32::to_bits);
    let known: HashSet<_> = other.positions().iter().map(bits).collect();
    let missed = dense
        .positions()
        .iter()
        .filter(|position| !known.contains(&bits(position)));
    let squared = missed.map(|position| {
        let apart = other.positions().iter().map(|other| {
            let axis = |axis: usize| f64::from(position[axis] - other[axis]).powi(2);
            axis(0) + axis(1) + axis(2)
        });
        apart.fold(f64::INFINITY, f64::min)
    });
    squared.fold(0.0, f64::max).sqrt()
}

/// The dense surface; `None` if the model sees nothing in the picture.
fn dense(table: &Table) -> Option<Surface> {
    let (surface, points, _) = table.sampled(EVERY_CELL);
    assert_eq!(points, table.logits.len(), "the dense grid is dense");
    match surface {
        Ok(surface) => Some(surface),
        Err(MeshError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn tools() -> Tools {
    let settings = World::new().await.settings();
    let engine = engine(&settings).await;
    app::open::tools(&settings, engine, PathBuf::from(PROGRAM)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn coarse_to_fine_finds_the_dense_surface_of_real_pictures() {
    let tools = tools().await;
    // The dinner, with the finest parts, through one halving more.
    for (picture, resolution) in [
        (pictures::CHAIR, 64),
        (pictures::TRUCK, 64),
        (pictures::DINNER, 96),
    ] {
        let table = Table::of(&tools, picture, resolution).await;
        let dense = dense(&table).unwrap();
        let found = difference(&table, &dense, FieldOptions::LOGIT_SLOPE);
        assert!(found.is_same, "{found:?}");
        assert_eq!((found.missed, found.made_up), (0, 0), "{found:?}");
        assert!(found.points * 3 < table.logits.len(), "{found:?}");
    }
}

/// The shipped pictures, and those of a folder.
fn all_pictures(more: Option<OsString>) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![
        root.join("examples/pictures"),
        root.join("models/orfeas-mini/validation/pictures"),
    ];
    folders.extend(more.map(PathBuf::from));
    let files = |folder: &PathBuf| {
        let entries = fs::read_dir(folder).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "png"));
        files.sort();
        files
    };
    folders.iter().flat_map(files).collect()
}

/// The table in docs/PERFORMANCE.md.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks the model for 2 million points of each of dozens of pictures: minutes"]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own setting, which no server has"
)]
async fn coarse_to_fine_finds_the_dense_surface_of_all_pictures() {
    let more = std::env::var_os(MORE_PICTURES);
    if more.is_none() {
        println!(
            "SKIPPED: more pictures than the shipped ones, since {MORE_PICTURES} names no folder"
        );
    }
    let tools = tools().await;
    let (mut tried, mut sums) = (0, [Difference::default(); SLOPES.len()]);
    let (mut same, mut same_clean) = ([0; SLOPES.len()], [0; SLOPES.len()]);
    for file in all_pictures(more) {
        let table = Table::of(&tools, &fs::read(&file).unwrap(), 128).await;
        let Some(dense) = dense(&table) else {
            println!("{}: no surface", file.display());
            continue;
        };
        tried += 1;
        for (at, slope) in SLOPES.into_iter().enumerate() {
            let found = difference(&table, &dense, slope);
            if !found.is_same {
                println!("{} with slope {slope}: {found:?}", file.display());
            }
            assert_eq!(found.made_up, 0, "{}", file.display());
            same[at] += usize::from(found.is_same);
            same_clean[at] += usize::from(found.is_same_clean);
            let sum = &mut sums[at];
            sum.cells += found.cells;
            sum.missed += found.missed;
            sum.farthest_cells = sum.farthest_cells.max(found.farthest_cells);
            sum.points += found.points;
            sum.requests += found.requests;
        }
    }
    println!("{tried} pictures, {} cells", sums[0].cells);
    println!(
        "| slope | same | same without specks | cells missed | farthest, cells | points, share of dense | requests |"
    );
    for (at, slope) in SLOPES.into_iter().enumerate() {
        let sum = sums[at];
        let mean = |sum: usize| sum as f64 / tried as f64;
        println!(
            "| {slope} | {} | {} | {} ({:.4}%) | {:.1} | {:.1}% | {:.1} |",
            same[at],
            same_clean[at],
            sum.missed,
            100.0 * sum.missed as f64 / sum.cells as f64,
            sum.farthest_cells,
            100.0 * mean(sum.points) / 128f64.powi(3),
            mean(sum.requests),
        );
    }
    let default = SLOPES
        .iter()
        .position(|&slope| slope == FieldOptions::LOGIT_SLOPE)
        .unwrap();
    // A speck may be missed that no conversion would keep; whatever one gets must be the same.
    assert_eq!(same_clean[default], tried, "with the slope of conversions");
}
