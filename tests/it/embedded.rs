//! The embedded Postgres: one starts it, others join it, and nothing that dies takes the data along.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use orfeas::db::embedded::error::EmbeddedError;
use orfeas::db::embedded::{Embedded, EmbeddedOptions};
use sqlx::postgres::{PgConnectOptions, PgPool};
use tempfile::TempDir;

/// Names the data folder to the test that is run as a process of its own.
const HOLDER_VARIABLE: &str = "ORFEAS_TEST_HOLDER_DATA_DIR";

/// What anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder whose parents anybody may pass through, so that root's Postgres stays in it.
fn data_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
    folder
}

fn options(data_dir: &Path) -> EmbeddedOptions {
    EmbeddedOptions {
        data_dir: data_dir.to_path_buf(),
        postgres_dir: None,
        helper_program: PathBuf::from(env!("CARGO_BIN_EXE_orfeas")),
        settings: vec![("fsync".to_owned(), "off".to_owned())],
    }
}

async fn start(data_dir: &Path) -> Embedded {
    Embedded::start_or_join(options(data_dir)).await.unwrap()
}

async fn pool(url: &str) -> PgPool {
    PgPool::connect(url).await.unwrap()
}

async fn count(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_outlives_a_stop_and_a_start() {
    let folder = data_folder();
    let first = start(folder.path()).await;
    assert!(first.is_holder());
    let connections = pool(&first.url()).await;
    sqlx::raw_sql("CREATE TABLE kept (number int); INSERT INTO kept VALUES (1), (2)")
        .execute(&connections)
        .await
        .unwrap();
    let shown: (String, String, String) = sqlx::query_as(
        "SELECT current_setting('server_version'), current_setting('listen_addresses'), current_setting('fsync')",
    )
    .fetch_one(&connections)
    .await
    .unwrap();
    assert!(shown.0.starts_with("18."), "{shown:?}");
    assert_eq!((shown.1.as_str(), shown.2.as_str()), ("", "off"));
    // An open connection doesn't hold up a stop.
    first.shutdown().await.unwrap();
    let second = start(folder.path()).await;
    assert_eq!(count(&pool(&second.url()).await).await, 2);
    second.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_utf8_and_sorts_by_code_point() {
    let folder = data_folder();
    let embedded = start(folder.path()).await;
    let connections = pool(&embedded.url()).await;
    let lower: String = sqlx::query_scalar("SELECT lower('ÄÖ')")
        .fetch_one(&connections)
        .await
        .unwrap();
    assert_eq!(lower, "äö");
    let is_sorted: bool = sqlx::query_scalar("SELECT 'Z' < 'a' AND 'a' < 'ä'")
        .fetch_one(&connections)
        .await
        .unwrap();
    assert!(is_sorted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_in_a_process_joins_the_first() {
    let folder = data_folder();
    let (one, other) = tokio::join!(start(folder.path()), start(folder.path()));
    assert_ne!(one.is_holder(), other.is_holder(), "two held one folder");
    assert_eq!(one.url(), other.url());
    let (holder, joiner) = if one.is_holder() {
        (one, other)
    } else {
        (other, one)
    };
    let connections = pool(&joiner.url()).await;
    sqlx::raw_sql("CREATE TABLE kept (number int)")
        .execute(&connections)
        .await
        .unwrap();
    joiner.shutdown().await.unwrap();
    assert_eq!(
        count(&pool(&holder.url()).await).await,
        0,
        "the joiner took the database with it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_copied_and_dropped() {
    let folder = data_folder();
    let embedded = start(folder.path()).await;
    embedded
        .create_database("template_of_tests", None)
        .await
        .unwrap();
    let template = pool(&embedded.url_of("template_of_tests")).await;
    sqlx::raw_sql("CREATE TABLE kept (number int); INSERT INTO kept VALUES (1)")
        .execute(&template)
        .await
        .unwrap();
    template.close().await;
    let started = Instant::now();
    for number in 0..5 {
        embedded
            .create_database(&format!("test_{number}"), Some("template_of_tests"))
            .await
            .unwrap();
    }
    let each = started.elapsed() / 5;
    assert!(each < Duration::from_secs(2), "a database took {each:?}");
    let copy = pool(&embedded.url_of("test_3")).await;
    assert_eq!(count(&copy).await, 1);
    let twice = embedded.create_database("test_3", None).await;
    assert!(
        matches!(twice, Err(EmbeddedError::Database { .. })),
        "{twice:?}"
    );
    // Although somebody is connected.
    embedded.drop_database("test_3").await.unwrap();
    embedded.drop_database("test_3").await.unwrap();
    assert!(PgPool::connect(&embedded.url_of("test_3")).await.is_err());
    let odd = embedded
        .create_database("a\"; DROP DATABASE orfeas; --", None)
        .await;
    assert!(
        matches!(odd, Err(EmbeddedError::DatabaseName { .. })),
        "{odd:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_stops_it_and_frees_the_folder() {
    let folder = data_folder();
    let embedded = start(folder.path()).await;
    let process = embedded.process_id().unwrap();
    assert!(is_running(process));
    drop(embedded);
    assert!(!is_running(process), "Postgres went on");
    let again = start(folder.path()).await;
    assert!(again.is_holder());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_lives_as_long_as_the_process_and_not_as_a_thread() {
    let folder = data_folder();
    let path = folder.path().to_path_buf();
    // A runtime of its own, whose threads all end.
    let embedded = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(start(&path))
    })
    .join()
    .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        is_running(embedded.process_id().unwrap()),
        "it ended with the thread that asked for it"
    );
    pool(&embedded.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_holder_is_followed_by_the_next() {
    let folder = data_folder();
    let mut holder = spawn_holder(folder.path()).await;
    let joined = start(folder.path()).await;
    assert!(!joined.is_holder());
    let connections = pool(&joined.url()).await;
    sqlx::raw_sql("CREATE TABLE kept (number int); INSERT INTO kept VALUES (1), (2), (3)")
        .execute(&connections)
        .await
        .unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let next = start(folder.path()).await;
    assert!(next.is_holder());
    assert_eq!(count(&pool(&next.url()).await).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgres_is_recovered() {
    let folder = data_folder();
    let embedded = start(folder.path()).await;
    let connections = pool(&embedded.url()).await;
    sqlx::raw_sql("CREATE TABLE kept (number int); INSERT INTO kept VALUES (1)")
        .execute(&connections)
        .await
        .unwrap();
    let process =
        rustix::process::Pid::from_raw(embedded.process_id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    drop(embedded);
    let next = start(folder.path()).await;
    assert_eq!(count(&pool(&next.url()).await).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_pid_file_of_another_program_is_no_obstacle() {
    let folder = data_folder();
    start(folder.path()).await.shutdown().await.unwrap();
    let other = std::process::id();
    let text = format!(
        "{other}\n/elsewhere\n1700000000\n5432\n/elsewhere\n\n  5432001         7\nready   \n"
    );
    let pid_file = folder.path().join("postgres/data/postmaster.pid");
    fs::write(&pid_file, text).unwrap();
    let embedded = start(folder.path()).await;
    assert!(embedded.is_holder());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_a_long_name_works() {
    let folder = data_folder();
    let deep = folder
        .path()
        .join("a rather long name with blanks, commas and an ü".repeat(4));
    let embedded = start(&deep).await;
    pool(&embedded.url()).await;
    let options: PgConnectOptions = embedded.url().parse().unwrap();
    let socket_dir = options.get_socket().unwrap().clone();
    assert!(
        !socket_dir.starts_with(folder.path()),
        "{}",
        socket_dir.display()
    );
    drop(embedded);
    assert!(
        !socket_dir.exists(),
        "{} stayed behind",
        socket_dir.display()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_is_quoted_from_the_log() {
    let folder = data_folder();
    let mut options = options(folder.path());
    options
        .settings
        .push(("max_connections".to_owned(), "many".to_owned()));
    let error = Embedded::start_or_join(options).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::Exited { .. }), "{error}");
    assert!(error.to_string().contains("max_connections"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_versions_data_is_refused() {
    let folder = data_folder();
    start(folder.path()).await.shutdown().await.unwrap();
    fs::write(folder.path().join("postgres/data/PG_VERSION"), "16\n").unwrap();
    let error = Embedded::start_or_join(options(folder.path()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, EmbeddedError::OtherVersion { .. }),
        "{error}"
    );
    let text = error.to_string();
    for word in [
        "Postgres 16",
        "Postgres 18",
        "orfeas backup",
        "orfeas restore",
    ] {
        assert!(text.contains(word), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_cluster_is_made_anew() {
    let folder = data_folder();
    start(folder.path()).await.shutdown().await.unwrap();
    fs::rename(
        folder.path().join("postgres/data"),
        folder.path().join("postgres/data.new"),
    )
    .unwrap();
    start(folder.path()).await;
    assert!(!folder.path().join("postgres/data.new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_never_runs_as_root_and_its_folder_is_closed() {
    let folder = data_folder();
    let embedded = start(folder.path()).await;
    let process = fs::metadata(format!("/proc/{}", embedded.process_id().unwrap())).unwrap();
    assert_ne!(process.uid(), 0);
    let home = fs::metadata(folder.path().join("postgres")).unwrap();
    assert_eq!((home.uid(), home.mode() & 0o777), (process.uid(), 0o700));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_at_the_terminal_does_not_reach_it() {
    let folder = data_folder();
    let embedded = start(folder.path()).await;
    let stat =
        fs::read_to_string(format!("/proc/{}/stat", embedded.process_id().unwrap())).unwrap();
    // After the name in parentheses: state, parent, process group.
    let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
    assert_eq!(group, embedded.process_id().unwrap().to_string());
}

/// Not a test of its own: [`a_killed_holder_is_followed_by_the_next`] runs it as the process that is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run as a process of its own by another test"]
#[expect(
    clippy::disallowed_methods,
    reason = "a process of the test harness takes no arguments of ours"
)]
async fn hold() {
    let data_dir = std::env::var_os(HOLDER_VARIABLE).unwrap();
    let embedded = start(Path::new(&data_dir)).await;
    assert!(embedded.is_holder());
    tokio::time::sleep(PATIENCE).await;
}

async fn spawn_holder(data_dir: &Path) -> Child {
    let holder = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "embedded::hold"])
        .env(HOLDER_VARIABLE, data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid_file = data_dir.join("postgres/data/postmaster.pid");
    let started = Instant::now();
    while !fs::read_to_string(&pid_file).is_ok_and(|text| text.contains("ready")) {
        assert!(
            started.elapsed() < PATIENCE,
            "the holder never became ready"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    holder
}

fn is_running(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}
