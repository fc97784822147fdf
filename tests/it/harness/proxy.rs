//! A network between a node and Postgres that can fail as networks do: silently.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use url::Url;

/// Passes connections on to Postgres; those that LISTEN can be made half-open.
pub struct Proxy {
    /// The database's URL through this proxy.
    pub url: String,
    state: Arc<State>,
    accepting: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

#[derive(Default)]
struct State {
    cuts: AtomicBool,
    listeners: Mutex<Vec<Arc<AtomicBool>>>,
}

impl Proxy {
    /// A proxy to the socket that a database's URL names.
    pub fn new(database_url: &str) -> Self {
        const SOCKET: &str = ".s.PGSQL.5432";
        let folder = tempfile::tempdir().unwrap();
        let mut url = Url::parse(database_url).unwrap();
        let mut parts: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let host = parts.iter_mut().find(|(name, _)| name == "host").unwrap();
        let target = PathBuf::from(&host.1).join(SOCKET);
        host.1 = folder.path().to_str().unwrap().to_owned();
        url.query_pairs_mut().clear().extend_pairs(parts);

        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let state = Arc::<State>::default();
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&state)));
        Self {
            url: url.into(),
            state,
            accepting,
            _folder: folder,
        }
    }

    /// From now on nothing passes on connections that LISTEN, in either direction; they stay open.
    pub fn cut_listeners(&self) {
        self.state.cuts.store(true, Ordering::SeqCst);
        for is_dead in self.state.listeners.lock().unwrap().iter() {
            is_dead.store(true, Ordering::SeqCst);
        }
    }

    /// New connections may LISTEN again; those that were cut stay dead.
    pub fn mend(&self) {
        self.state.cuts.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, target: PathBuf, state: Arc<State>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = UnixStream::connect(&target).await.unwrap();
        let is_dead = Arc::<AtomicBool>::default();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::spawn(pass(
            from_client,
            to_server,
            Arc::clone(&is_dead),
            Some(Arc::clone(&state)),
        ));
        tokio::spawn(pass(from_server, to_client, is_dead, None));
    }
}

/// Passes bytes on until the connection ends or dies; `state` watches what a client says.
async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    is_dead: Arc<AtomicBool>,
    state: Option<Arc<State>>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let bytes = &buffer[..count];
        if let Some(state) = &state
            && bytes.windows(8).any(|window| window == b"LISTEN \"")
        {
            is_dead.store(state.cuts.load(Ordering::SeqCst), Ordering::SeqCst);
            state.listeners.lock().unwrap().push(Arc::clone(&is_dead));
        }
        if is_dead.load(Ordering::SeqCst) {
            // Both ends stay open and hear nothing any more.
            return std::future::pending().await;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
