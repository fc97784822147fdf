//! `orfeas bench --queue`: what it costs Postgres to take a conversion in, to hand it out, to move it on and to end it, by
//! how many rows the table has. The functions are those that a server calls; no model and no store takes part.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use sea_orm::{FromQueryResult, Statement};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{fill::fill, work::Work};
use super::{
    super::{CommandError, output, program},
    show,
};
use crate::{
    app,
    config::Settings,
    conversion::NodeId,
    db::{Database, listen::Hub},
};

mod fill;
mod work;

/// Options of the bench.
#[derive(Debug, Clone)]
pub(super) struct QueueOptions {
    /// Rows in the table, growing.
    pub rows: Vec<u64>,
    /// Callers at once; one run for each number.
    pub callers: Vec<usize>,
    /// Conversions of each run.
    pub conversions: usize,
    pub json: bool,
}

/// More callers than a node has connections would measure the wait for one.
const CALLERS_MAX: usize = 16;

/// Fills the table of an empty database step by step and measures each operation at each size.
///
/// # Errors
/// When the database holds conversions already, or a statement fails.
pub(super) async fn run(
    settings: &Settings,
    options: QueueOptions,
) -> Result<ExitCode, CommandError> {
    let QueueOptions {
        rows,
        callers,
        conversions,
        json,
    } = options;
    let callers_fit = callers
        .iter()
        .all(|count| (1..=CALLERS_MAX).contains(count));
    if !callers_fit || !rows.is_sorted() || conversions == 0 {
        return Err(format!(
            "--queue takes growing numbers, --callers 1 to {CALLERS_MAX}, --conversions 1 or more"
        )
        .into());
    }
    let opened = app::open::database(settings, program()?).await?;
    let database = &opened.database;
    // As in a server: what the statements leave for listeners is sent.
    let stop = CancellationToken::new();
    let measuring = async {
        let measured = measure(database, &rows, &callers, conversions).await;
        stop.cancel();
        measured
    };
    let listening = database.listen(Hub::default(), NodeId::new(), stop.clone());
    let (measured, ()) = tokio::join!(measuring, listening);
    opened.close().await?;
    Ok(show(measured?, json, table))
}

async fn measure(
    database: &Database,
    sizes: &[u64],
    callers: &[usize],
    conversions: usize,
) -> Result<Vec<Value>, CommandError> {
    if rows_of(database).await? > 0 {
        return Err("the database has conversions: the bench wants one of its own".into());
    }
    let work = Work::prepare(database).await?;
    let mut measured = Vec::new();
    for &size in sizes {
        let began = Instant::now();
        let missing = size.saturating_sub(rows_of(database).await?);
        fill(database, &work.owners, missing).await?;
        output::complain(&format!(
            "{size} rows after {:.0} s",
            began.elapsed().as_secs_f64()
        ));
        for &at_once in callers {
            let mut add = |operation: &str, timed: Timed| {
                measured.push(timed.row(size, at_once, operation));
            };
            let numbers: Vec<usize> = (0..conversions).collect();
            let enqueue = |database, number| work.enqueue(database, number);
            add(
                "enqueue",
                timed(database, at_once, numbers.clone(), enqueue).await?.0,
            );
            let claim = |database, _| work.claim(database);
            let (claims, claimed) = timed(database, at_once, numbers, claim).await?;
            add("claim", claims);
            let enter = |_, claimed| work.enter(claimed);
            let (stages, claimed) = timed(database, at_once, claimed, enter).await?;
            add("stage", stages);
            let complete = |_, claimed| work.complete(claimed);
            add(
                "complete",
                timed(database, at_once, claimed, complete).await?.0,
            );
        }
    }
    Ok(measured)
}

/// Calls of one operation, and what they have cost.
struct Timed {
    seconds: Vec<f64>,
    wall: Duration,
    wal_bytes: f64,
}

/// Lets `at_once` callers go through the items, and yields what the calls came to.
async fn timed<T, R, F>(
    database: &Database,
    at_once: usize,
    items: Vec<T>,
    one: impl Fn(Database, T) -> F,
) -> Result<(Timed, Vec<R>), CommandError>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<R, CommandError>> + Send + 'static,
{
    let mut calls: Vec<Vec<F>> = (0..at_once).map(|_| Vec::new()).collect();
    for (turn, item) in items.into_iter().enumerate() {
        calls[turn % at_once].push(one(database.clone(), item));
    }
    let (wal, began) = (wal_position(database).await?, Instant::now());
    let mut callers = JoinSet::new();
    for calls in calls {
        callers.spawn(async move {
            let mut done = Vec::new();
            for call in calls {
                let began = Instant::now();
                let result = call.await?;
                done.push((began.elapsed().as_secs_f64(), result));
            }
            Ok::<_, CommandError>(done)
        });
    }
    let mut done = Vec::new();
    while let Some(caller) = callers.join_next().await {
        done.extend(caller.map_err(|error| error.to_string())??);
    }
    let wall = began.elapsed();
    let wal_bytes = wal_position(database).await? - wal;
    let (mut seconds, results): (Vec<f64>, Vec<R>) = done.into_iter().unzip();
    seconds.sort_by(f64::total_cmp);
    let timed = Timed {
        seconds,
        wall,
        wal_bytes,
    };
    Ok((timed, results))
}

impl Timed {
    #[expect(clippy::cast_precision_loss, reason = "some thousands of calls")]
    fn row(&self, rows: u64, callers: usize, operation: &str) -> Value {
        let count = self.seconds.len();
        let at = |percent: usize| self.seconds[(count * percent).div_ceil(100).max(1) - 1] * 1e3;
        json!({
            "rows": rows, "callers": callers, "operation": operation,
            "perSecond": count as f64 / self.wall.as_secs_f64(), "p50Ms": at(50), "p99Ms": at(99),
            "walBytes": self.wal_bytes / count as f64,
        })
    }
}

#[derive(FromQueryResult)]
struct Figure {
    value: f64,
}

async fn figure(database: &Database, sql: &str) -> Result<f64, CommandError> {
    let statement = Statement::from_string(sea_orm::DbBackend::Postgres, sql.to_owned());
    let figure = Figure::find_by_statement(statement)
        .one(database.connection())
        .await?;
    Ok(figure.ok_or("the query yields no row")?.value)
}

/// How far the write-ahead log has come, in bytes.
async fn wal_position(database: &Database) -> Result<f64, CommandError> {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 AS value";
    figure(database, sql).await
}

async fn rows_of(database: &Database) -> Result<u64, CommandError> {
    let rows = figure(database, "SELECT count(*)::float8 AS value FROM conversion").await?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    Ok(rows as u64)
}

/// Statements without values, each by itself: some can't share a transaction.
async fn execute(database: &Database, statements: [&'static str; 2]) -> Result<(), CommandError> {
    for statement in statements {
        sqlx::query(statement)
            .execute(database.connection().pool())
            .await?;
    }
    Ok(())
}

fn table(rows: &[Value]) {
    output::line("| rows | callers | operation | per s | p50 ms | p99 ms | WAL bytes |");
    output::line("|---|---|---|---|---|---|---|");
    for row in rows {
        let number = |key: &str, digits: usize| output::number(&row[key], digits);
        output::line(&format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            row["rows"],
            row["callers"],
            row["operation"].as_str().unwrap_or_default(),
            number("perSecond", 0),
            number("p50Ms", 2),
            number("p99Ms", 2),
            number("walBytes", 0),
        ));
    }
}
