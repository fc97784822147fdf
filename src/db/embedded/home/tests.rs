use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::{DataDir, PidFile, SOCKET_PATH_BYTES_MAX, socket_dir};
use crate::db::embedded::account::Account;
use crate::db::embedded::error::EmbeddedError;

/// A folder whose parents anybody may pass through, whoever runs the tests.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode is set");
    folder
}

#[test]
fn a_long_or_odd_home_gets_a_short_socket_of_its_own() {
    let plain = socket_dir(Path::new("/srv/orfeas/postgres"), 7);
    assert_eq!(plain, Path::new("/srv/orfeas/postgres/socket"));
    let long = format!("/srv/{}", "a".repeat(100));
    let other = format!("/srv/{}", "b".repeat(100));
    for odd in [long.as_str(), "/srv/a,b", "/srv/a b", "/srv/\"a\""] {
        let short = socket_dir(Path::new(odd), 7);
        assert!(short.starts_with("/tmp"), "{odd} kept {}", short.display());
        assert!(short.join(".s.PGSQL.5432").as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
    }
    assert_ne!(
        socket_dir(Path::new(&long), 7),
        socket_dir(Path::new(&other), 7)
    );
}

#[test]
fn the_longest_path_that_fits_is_used() {
    let room = SOCKET_PATH_BYTES_MAX - "/socket/.s.PGSQL.5432".len();
    let fits = format!("/{}", "a".repeat(room - 1));
    let too_long = format!("/{}", "a".repeat(room));
    assert!(socket_dir(Path::new(&fits), 7).starts_with(&fits));
    assert!(!socket_dir(Path::new(&too_long), 7).starts_with(&too_long));
}

#[test]
fn the_pid_file_is_read_at_every_stage_of_being_written() {
    let ready = "4242\n/d\n1700000000\n5432\n/s\n\n  5432001         7\nready   \n";
    let parsed = PidFile::parse(ready).expect("a whole file parses");
    assert_eq!(parsed.process_id, 4242);
    assert!(parsed.is_ready());
    let starting =
        PidFile::parse(&ready.replace("ready   ", "starting")).expect("a whole file parses");
    assert!(!starting.is_ready());
    assert!(
        !PidFile::parse("4242\n/d\n")
            .expect("a first part parses")
            .is_ready()
    );
    assert_eq!(PidFile::parse(""), None);
    assert_eq!(
        PidFile::parse("-17\n/d\n"),
        None,
        "a single session was taken for a server"
    );
}

#[test]
fn one_holds_the_folder_and_the_next_follows() {
    let folder = open_folder();
    let account = Account::for_postgres().expect("somebody to run Postgres as");
    let data_dir = DataDir::prepare(&folder.path().join("data"), &account).expect("a data folder");
    assert!(data_dir.find_home(&account).expect("a look").is_none());
    let held = data_dir
        .try_lock()
        .expect("a lock file")
        .expect("nobody else holds it");
    assert!(
        data_dir.try_lock().expect("a lock file").is_none(),
        "two held it"
    );
    drop(held);
    assert!(data_dir.try_lock().expect("a lock file").is_some());
}

#[test]
fn a_home_is_closed_and_its_owners() {
    let folder = open_folder();
    let account = Account::for_postgres().expect("somebody to run Postgres as");
    let data_dir = DataDir::prepare(&folder.path().join("data"), &account).expect("a data folder");
    let made = data_dir
        .make_home(&account, &folder.path().join("stage"))
        .expect("a home");
    let again = data_dir
        .find_home(&account)
        .expect("a look")
        .expect("the home is there");
    assert_eq!(made.path(), again.path());
    for path in [made.path(), made.socket_dir()] {
        let metadata = fs::metadata(path).expect("it is there");
        assert_eq!(metadata.mode() & 0o777, 0o700);
        assert_eq!(metadata.uid(), account.uid());
    }
}

#[test]
fn root_goes_elsewhere_where_others_cannot_follow() {
    let account = Account::for_postgres().expect("somebody to run Postgres as");
    if !account.is_switched() {
        return;
    }
    let folder = open_folder();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("its mode is set");
    let stage = folder.path().join("stage");
    let data_dir = DataDir::prepare(&closed.join("data"), &account).expect("a data folder");
    let first = data_dir.make_home(&account, &stage).expect("a home");
    assert!(
        first.path().starts_with(&stage),
        "{} can't be reached",
        first.path().display()
    );
    assert!(account.can_pass_to(first.path()).expect("it is there"));
    let second = data_dir.make_home(&account, &stage).expect("a home");
    assert_eq!(
        first.path(),
        second.path(),
        "a second start went to another home"
    );
}

#[test]
fn a_socket_folder_open_to_others_is_refused() {
    let folder = open_folder();
    let account = Account::for_postgres().expect("somebody to run Postgres as");
    let data_dir = DataDir::prepare(&folder.path().join("data"), &account).expect("a data folder");
    let home = data_dir.make_home(&account, folder.path()).expect("a home");
    fs::set_permissions(home.socket_dir(), fs::Permissions::from_mode(0o777))
        .expect("its mode is set");
    let refused = data_dir.make_home(&account, folder.path());
    assert!(
        matches!(refused, Err(EmbeddedError::SocketFolder { .. })),
        "{refused:?}"
    );
}
