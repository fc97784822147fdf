//! Other people's servers, and a resolver that says what it is told to. What they answer is written out byte by byte, so
//! that they can break every rule.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use orfeas::egress::{Egress, EgressOptions, Resolve};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

const CERTIFICATE: &[u8] = include_bytes!("../../fixtures/certificates/server.pem");
const KEY: &[u8] = include_bytes!("../../fixtures/certificates/server.key");
const AUTHORITY: &[u8] = include_bytes!("../../fixtures/certificates/authority.pem");

/// What the certificate is for.
pub const CERTIFIED: &str = "pictures.example";

/// What a server does with a request.
#[derive(Debug, Clone)]
pub enum Script {
    /// Sends this and hangs up.
    Sends(Vec<u8>),
    /// Sends this and waits for the next request.
    Keeps(Vec<u8>),
    /// Sends the first, then the second again and again, with a pause between.
    Repeats(Vec<u8>, Vec<u8>, Duration),
    /// Sends this and then nothing, for ever.
    Stalls(Vec<u8>),
}

/// 200 with this body.
pub fn ok(body: &[u8]) -> Script {
    answer("200 OK", &[], body)
}

/// A status and nothing else.
pub fn status(line: &str) -> Script {
    answer(line, &[], b"")
}

pub fn redirect(to: &str) -> Script {
    answer("302 Found", &[("Location", to)], b"")
}

/// A well-formed answer.
pub fn answer(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Script {
    let mut head = format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    Script::Sends([head.as_bytes(), b"\r\n", body].concat())
}

type Answers = Arc<dyn Fn(&str) -> Script + Send + Sync>;

/// A server of somebody else's.
pub struct Elsewhere {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    _serving: JoinSet<()>,
}

impl Elsewhere {
    /// Answers each path as told, in the clear.
    pub async fn plain(
        address: &str,
        answers: impl Fn(&str) -> Script + Send + Sync + 'static,
    ) -> Self {
        Self::start(address, None, Arc::new(answers)).await
    }

    /// The same over TLS, with the certificate of [`CERTIFIED`].
    pub async fn secure(
        address: &str,
        answers: impl Fn(&str) -> Script + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()],
                PrivateKeyDer::from_pem_slice(KEY).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(address, Some(acceptor), Arc::new(answers)).await
    }

    async fn start(address: &str, acceptor: Option<TlsAcceptor>, answers: Answers) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let connections: Arc<Mutex<usize>> = Arc::default();
        let mut serving = JoinSet::new();
        let (seen, counted) = (requests.clone(), connections.clone());
        serving.spawn(async move {
            let mut talking = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                *counted.lock().unwrap() += 1;
                let (seen, answers) = (seen.clone(), answers.clone());
                let acceptor = acceptor.clone();
                talking.spawn(async move {
                    // A client that hangs up or trusts nobody ends the talk, and what it saw is in its own test.
                    let _ = match acceptor {
                        None => talk(stream, &seen, &answers).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => talk(stream, &seen, &answers).await,
                            Err(error) => Err(error),
                        },
                    };
                });
            }
        });
        Self {
            address,
            requests,
            connections,
            _serving: serving,
        }
    }

    /// An address of this server, under a name that the resolver knows.
    pub fn url(&self, scheme: &str, host: &str, path: &str) -> String {
        format!("{scheme}://{host}:{}{path}", self.address.port())
    }

    /// Heads and bodies of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<String>>,
    answers: &Answers,
) -> io::Result<()> {
    let script = loop {
        let request = read_request(&mut stream).await?;
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.lock().unwrap().push(request);
        match answers(&path) {
            Script::Keeps(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            script => break script,
        }
    };
    match script {
        Script::Sends(bytes) | Script::Keeps(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        Script::Repeats(first, again, pause) => {
            stream.write_all(&first).await?;
            loop {
                stream.write_all(&again).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
        }
        Script::Stalls(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            std::future::pending().await
        }
    }
}

/// What a client begins with that wants TLS.
const TLS_HANDSHAKE: u8 = 22;

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..read]);
        if bytes[0] == TLS_HANDSHAKE {
            return Ok("TLS /hello".to_owned());
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.to_lowercase().lines().find_map(|line| {
            let value = line.strip_prefix("content-length:")?;
            value.trim().parse::<usize>().ok()
        });
        if body.len() >= length.unwrap_or(0) {
            return Ok(text);
        }
    }
}

/// A resolver that knows what it is told, and counts who asks.
#[derive(Debug, Default)]
pub struct Names {
    /// For each name its answers, one after another; the last stays.
    answers: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub fn new(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let known = Self::default();
        for (name, answers) in names {
            let addresses =
                |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            let answers = answers.iter().map(addresses).collect();
            known
                .answers
                .lock()
                .unwrap()
                .insert((*name).to_owned(), answers);
        }
        Arc::new(known)
    }

    /// How often a name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| *asked == name).count()
    }
}

/// A name that is looked up for ever.
pub const NEVER: &str = "never.example";

impl Resolve for Names {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.lock().unwrap().push(host.to_owned());
        if host == NEVER {
            return Box::pin(std::future::pending());
        }
        let mut answers = self.answers.lock().unwrap();
        let answer = answers.get_mut(host).and_then(|answers| {
            let first = answers.front().cloned();
            if answers.len() > 1 {
                answers.pop_front();
            }
            first
        });
        let answer = answer.ok_or_else(|| io::Error::other("no such host"));
        Box::pin(std::future::ready(answer))
    }
}

/// Calls these networks beside the public, by the word of this resolver.
pub fn egress(allowed: &[&str], names: &Arc<Names>) -> Egress {
    Egress::new(EgressOptions {
        allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(),
        resolver: names.clone(),
    })
}

/// Whose word the test servers' certificates are.
pub fn authority() -> reqwest::Certificate {
    reqwest::Certificate::from_pem(AUTHORITY).unwrap()
}
