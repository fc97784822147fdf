//! A network between a node and what it stands on, that can fail as networks do: slowly, loudly, or without a word.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use url::Url;

const SOCKET: &str = ".s.PGSQL.5432";

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Open,
    /// Everything arrives so much later.
    Slow(Duration),
    /// Nobody listens; what is connected goes on.
    Refusing,
    /// Connections are taken, those that are there stay, and nothing passes. They are never heard of again.
    Silent,
    /// Nobody listens, and what was connected is closed.
    Gone,
}

/// A moment at which a connection is closed, once: when the client says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It is not passed on.
    Before,
    /// It is passed on, and its answer is not.
    After,
}

/// Where connections come from or go to.
#[derive(Debug, Clone)]
pub enum Place {
    Socket(PathBuf),
    Tcp(SocketAddr),
}

/// Passes connections on as its mode has it.
pub struct Proxy {
    /// The database's URL through this proxy, where that is what it leads to.
    pub url: String,
    /// Where it listens.
    pub place: Place,
    state: Arc<State>,
    accepting: JoinHandle<()>,
    _folder: Option<tempfile::TempDir>,
}

struct State {
    mode: watch::Sender<Mode>,
    /// Whether connections that LISTEN are to die.
    cuts_listeners: AtomicBool,
    listeners: Mutex<Vec<Arc<AtomicBool>>>,
    /// The next connection whose client says this is cut.
    cut: Mutex<Option<(&'static [u8], Cut)>>,
    cuts: AtomicUsize,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Listener {
    Socket(UnixListener),
    Tcp(TcpListener),
}

impl Place {
    async fn listen(&self) -> io::Result<Listener> {
        match self {
            Self::Socket(path) => {
                // One that was closed leaves its name.
                let _ = std::fs::remove_file(path);
                UnixListener::bind(path).map(Listener::Socket)
            }
            Self::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream: Box<dyn Stream> = match self {
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        Ok(stream)
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        let stream: Box<dyn Stream> = match self {
            Self::Socket(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        Ok(stream)
    }
}

/// The socket that a database's URL names.
fn socket_of(url: &str) -> PathBuf {
    let url = Url::parse(url).unwrap();
    let host = url.query_pairs().find(|(name, _)| name == "host");
    let (_, folder) = host.expect("a folder");
    Path::new(folder.as_ref()).join(SOCKET)
}

/// A URL with other parameters.
fn with(url: &str, changed: &[(&str, &str)]) -> String {
    let mut url = Url::parse(url).unwrap();
    let mut parts: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    for (name, value) in changed {
        let part = parts.iter_mut().find(|(known, _)| known == name);
        part.expect("it is in the URL").1 = (*value).to_owned();
    }
    url.query_pairs_mut().clear().extend_pairs(parts);
    url.into()
}

impl Proxy {
    /// A proxy to the socket that a database's URL names, at a socket of its own.
    pub async fn new(database_url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = Place::Socket(socket_of(database_url));
        let place = Place::Socket(folder.path().join(SOCKET));
        let mut proxy = Self::between(place, target).await;
        let host = folder.path().to_str().unwrap();
        proxy.url = with(database_url, &[("host", host)]);
        proxy._folder = Some(folder);
        proxy
    }

    /// A proxy to the same socket at an address, for nodes that are elsewhere.
    pub async fn at(address: SocketAddr, database_url: &str) -> Self {
        let target = Place::Socket(socket_of(database_url));
        let mut proxy = Self::between(Place::Tcp(address), target).await;
        let Place::Tcp(address) = proxy.place else {
            unreachable!("as it was asked for")
        };
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        proxy.url = with(database_url, &[("host", &host), ("port", &port)]);
        proxy
    }

    /// A proxy to an address.
    pub async fn to(target: SocketAddr) -> Self {
        let place = Place::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self::between(place, Place::Tcp(target)).await
    }

    async fn between(place: Place, target: Place) -> Self {
        let listener = place.listen().await.unwrap();
        let place = match &listener {
            Listener::Tcp(listener) => Place::Tcp(listener.local_addr().unwrap()),
            Listener::Socket(_) => place,
        };
        let state = Arc::new(State {
            mode: watch::Sender::new(Mode::Open),
            cuts_listeners: AtomicBool::new(false),
            listeners: Mutex::default(),
            cut: Mutex::default(),
            cuts: AtomicUsize::default(),
        });
        let accepting = tokio::spawn(accept(listener, place.clone(), target, Arc::clone(&state)));
        Self {
            url: String::new(),
            place,
            state,
            accepting,
            _folder: None,
        }
    }

    /// From now on the network does this.
    pub fn set(&self, mode: Mode) {
        self.state.mode.send_replace(mode);
    }

    /// Closes the next connection whose client says this.
    pub fn cut_at(&self, words: &'static [u8], cut: Cut) {
        *self.state.cut.lock().unwrap() = Some((words, cut));
    }

    /// How many connections were closed at their words.
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// From now on nothing passes on connections that LISTEN, in either direction; they stay open.
    pub fn cut_listeners(&self) {
        self.state.cuts_listeners.store(true, Ordering::SeqCst);
        for is_dead in self.state.listeners.lock().unwrap().iter() {
            is_dead.store(true, Ordering::SeqCst);
        }
    }

    /// New connections may LISTEN again; those that were cut stay dead.
    pub fn mend(&self) {
        self.state.cuts_listeners.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: Listener, place: Place, target: Place, state: Arc<State>) {
    let mut connections = JoinSet::new();
    let mut mode = state.mode.subscribe();
    let mut listener = Some(listener);
    loop {
        let is_deaf = matches!(*mode.borrow_and_update(), Mode::Refusing | Mode::Gone);
        if is_deaf {
            listener = None;
        } else if listener.is_none() {
            listener = Some(place.listen().await.unwrap());
        }
        while connections.try_join_next().is_some() {}
        tokio::select! {
            changed = mode.changed() => changed.unwrap(),
            client = async { listener.as_ref().unwrap().accept().await }, if listener.is_some() => {
                let (target, state) = (target.clone(), Arc::clone(&state));
                connections.spawn(async move {
                    // Whoever hangs up in the middle is in the test of whoever is at the other end.
                    let _ = carry(client?, target, state).await;
                    io::Result::Ok(())
                });
            }
        }
    }
}

/// One connection, until an end of it, or the network, ends it.
async fn carry(client: Box<dyn Stream>, target: Place, state: Arc<State>) -> io::Result<()> {
    let mut mode = state.mode.subscribe();
    let is_dead = Arc::new(AtomicBool::new(*mode.borrow_and_update() == Mode::Silent));
    if is_dead.load(Ordering::SeqCst) {
        // It is taken, and never answered; what was said is not read.
        let _client = client;
        return gone(&mut mode).await;
    }
    let server = target.connect().await?;
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let forth = pass(from_client, to_server, &is_dead, &state, true);
    let back = pass(from_server, to_client, &is_dead, &state, false);
    tokio::select! {
        ended = forth => ended,
        ended = back => ended,
        ended = async {
            loop {
                mode.changed().await.map_err(io::Error::other)?;
                match *mode.borrow_and_update() {
                    Mode::Silent => is_dead.store(true, Ordering::SeqCst),
                    Mode::Gone => return Ok(()),
                    Mode::Open | Mode::Slow(_) | Mode::Refusing => {}
                }
            }
        } => ended,
    }
}

async fn gone(mode: &mut watch::Receiver<Mode>) -> io::Result<()> {
    mode.wait_for(|mode| *mode == Mode::Gone)
        .await
        .map(|_| ())
        .map_err(io::Error::other)
}

/// Passes bytes on until the connection ends or dies.
async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    is_dead: &Arc<AtomicBool>,
    state: &State,
    is_client: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let bytes = &buffer[..count];
        if is_client && says(bytes, b"LISTEN \"") {
            let cut = state.cuts_listeners.load(Ordering::SeqCst);
            is_dead.fetch_or(cut, Ordering::SeqCst);
            state.listeners.lock().unwrap().push(Arc::clone(is_dead));
        }
        if is_dead.load(Ordering::SeqCst) {
            // Both ends stay open and hear nothing any more.
            return std::future::pending().await;
        }
        let delay = match *state.mode.borrow() {
            Mode::Slow(delay) => Some(delay),
            _ => None,
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let cut = if is_client { state.cut_of(bytes) } else { None };
        if cut == Some(Cut::Before) {
            return Ok(());
        }
        to.write_all(bytes).await?;
        if cut == Some(Cut::After) {
            to.flush().await?;
            return Ok(());
        }
    }
}

impl State {
    fn cut_of(&self, bytes: &[u8]) -> Option<Cut> {
        let mut cut = self.cut.lock().unwrap();
        let found = cut.filter(|(words, _)| says(bytes, words))?;
        *cut = None;
        self.cuts.fetch_add(1, Ordering::SeqCst);
        Some(found.1)
    }
}

fn says(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}
