//! Keeps conversions going and counts them.

use std::{
    cmp::Reverse,
    fs,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::super::{super::CommandError, STAGES, median};
use crate::inference::{device::DeviceInfo, engine::Engine, limits::KernelWatch};

/// This share of a run is for getting there and isn't counted.
const UNCOUNTED: f64 = 0.2;

/// So many of the slowest conversions are told of one by one, in the row's JSON: whether they stood still together, and in what.
const SLOWEST: usize = 5;

/// How conversions come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Traffic {
    /// So many clients, each with one conversion at a time.
    Clients(usize),
    /// So many together, and the next ones when all have ended.
    Waves(usize),
    /// So many a second, independent of each other (a Poisson process), however many are under way.
    Arrivals(f64),
}

/// One conversion that has ended.
#[derive(Debug, Clone)]
struct Done {
    ended: Instant,
    took: Duration,
    /// As the API names them, as far as the level knows them.
    timings: Value,
}

type Running = JoinSet<Result<Done, CommandError>>;

/// Lets conversions come for so many seconds, waits for the last of them, and says what was carried: the rate at which they
/// ended while that is counted; of those that began then, too, the latencies, the mean GPU batch and the median of each
/// stage; the device's share of the time, and this process's processor time of a conversion.
///
/// `one` starts the conversion of this number and yields its timings.
///
/// # Errors
/// The first conversion's that fails.
pub(super) async fn drive<F>(
    engine: &Engine,
    kernels: Option<KernelWatch>,
    traffic: Traffic,
    seconds: f64,
    one: impl Fn(usize) -> F,
) -> Result<Value, CommandError>
where
    F: Future<Output = Result<Value, CommandError>> + Send + 'static,
{
    let started = Instant::now();
    let counted = started + Duration::from_secs_f64(seconds * UNCOUNTED);
    let end = started + Duration::from_secs_f64(seconds);
    let mut running = Running::new();
    let mut number = 0;
    let mut start = |running: &mut Running| {
        let conversion = one(number);
        number += 1;
        running.spawn(async move {
            let began = Instant::now();
            let timings = conversion.await?;
            let ended = Instant::now();
            Ok(Done {
                ended,
                took: ended - began,
                timings,
            })
        });
    };
    let (busy_from, processor_from) = (busy(engine), processor_seconds()?);
    let mut done = Vec::new();
    match traffic {
        Traffic::Clients(clients) | Traffic::Waves(clients) => {
            (0..clients).for_each(|_| start(&mut running));
            while let Some(ended) = running.join_next().await {
                done.push(joined(ended)?);
                if Instant::now() >= end {
                    break;
                }
                match (traffic, running.is_empty()) {
                    (Traffic::Waves(_), false) => {}
                    (Traffic::Waves(_), true) => (0..clients).for_each(|_| start(&mut running)),
                    _ => start(&mut running),
                }
            }
        }
        Traffic::Arrivals(per_second) => {
            let mut next = started;
            while next < end {
                tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => {
                        start(&mut running);
                        let gap = -(1.0 - rand::random::<f64>()).ln() / per_second;
                        next += Duration::from_secs_f64(gap);
                    }
                    Some(ended) = running.join_next() => done.push(joined(ended)?),
                }
            }
        }
    }
    // Over the time that is counted; after it the devices run dry.
    let kernels_busy = kernels.map(|kernels| kernels.share(counted, Instant::now().min(end)));
    while let Some(ended) = running.join_next().await {
        done.push(joined(ended)?);
    }
    let whole = started.elapsed().as_secs_f64();
    let busy = busy(engine)
        .zip(busy_from)
        .map(|(to, from)| (to - from) / whole);
    #[expect(clippy::cast_precision_loss, reason = "a benchmark's count")]
    let processor = (processor_seconds()? - processor_from) / done.len().max(1) as f64;
    done.retain(|done: &Done| (counted..end).contains(&done.ended));
    #[expect(clippy::cast_precision_loss, reason = "a benchmark's count")]
    let per_second = done.len() as f64 / (end - counted).as_secs_f64();
    // The first of all wait for threads, processes and memory, which the others find there.
    done.retain(|done| done.ended - done.took >= counted);
    let mut row = summary(&done);
    row["perSecond"] = json!(per_second);
    row["slowest"] = slowest(&mut done, started);
    row["deviceBusy"] = json!(busy);
    row["kernelsBusy"] = json!(kernels_busy.transpose()?);
    row["processorSeconds"] = json!(processor);
    Ok(row)
}

fn joined(
    ended: Result<Result<Done, CommandError>, tokio::task::JoinError>,
) -> Result<Done, CommandError> {
    ended.map_err(|error| error.to_string())?
}

/// Processor time that this process has used, all its threads together. Its children, which decode pictures and keep
/// the database, are not in it.
pub(in super::super) fn processor_seconds() -> Result<f64, CommandError> {
    /// Linux counts in hundredths of a second towards programs.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").map_err(|error| error.to_string())?;
    // The name, which may hold anything, ends with the last bracket; user and system time are the 12th and 13th after.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Result<Vec<f64>, _> = ticks.map(str::parse).collect();
    let ticks = ticks.map_err(|error| format!("/proc/self/stat: {error}"))?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// Seconds that the devices have worked, all together.
pub(in super::super) fn busy(engine: &Engine) -> Option<f64> {
    let busy = |device: DeviceInfo| device.busy.map(|busy| busy.as_secs_f64());
    engine.devices().into_iter().map(busy).sum()
}

/// Those that took longest: when they ended, of the run, and their timings.
fn slowest(done: &mut [Done], started: Instant) -> Value {
    done.sort_by_key(|done| Reverse(done.took));
    let told = done.iter().take(SLOWEST).map(|done| {
        json!({
            "endedSeconds": (done.ended - started).as_secs_f64(), "tookMs": done.took.as_secs_f64() * 1000.0,
            "timings": done.timings,
        })
    });
    told.collect()
}

fn summary(done: &[Done]) -> Value {
    let mut took: Vec<f64> = done
        .iter()
        .map(|done| done.took.as_secs_f64() * 1000.0)
        .collect();
    took.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of a benchmark"
    )]
    let at = |share: f64| {
        let place = (share * took.len() as f64).ceil() as usize;
        took.get(place.clamp(1, took.len().max(1)) - 1).copied()
    };
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let count = done.len() as f64;
    let timing = |name: &'static str| {
        done.iter()
            .filter_map(move |done| done.timings[name].as_f64())
    };
    let medians: Map<String, Value> = STAGES
        .into_iter()
        .filter(|stage| timing(stage).next().is_some())
        .map(|stage| {
            (
                stage.to_owned(),
                json!(median(&mut timing(stage).collect::<Vec<_>>())),
            )
        })
        .collect();
    json!({
        "conversions": done.len(), "p50Ms": at(0.5), "p95Ms": at(0.95), "p99Ms": at(0.99),
        "gpuBatch": timing("gpuBatchSize").sum::<f64>() / count.max(1.0), "medianMs": medians,
    })
}
