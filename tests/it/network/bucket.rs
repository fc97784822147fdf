//! An S3 server of the test's own, over a folder.

use std::net::SocketAddr;

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use orfeas::storage::Storage;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::task::JoinSet;

const BUCKET: &str = "assets";
const KEY: &str = "test-key";
const SECRET: &str = "test-secret";

pub struct Bucket {
    pub address: SocketAddr,
    _serving: JoinSet<()>,
    _folder: TempDir,
}

impl Bucket {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut talking = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = Builder::new(TokioExecutor::new());
                let talk = server.serve_connection(TokioIo::new(stream), service.clone());
                let talk = talk.into_owned();
                // A client that hangs up is the test's matter.
                talking.spawn(async move { drop(talk.await) });
                while talking.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            _serving: serving,
            _folder: folder,
        }
    }

    /// What a node reads of its environment to find it at an address.
    pub fn variables(address: SocketAddr) -> [(String, String); 5] {
        [
            ("AWS_ENDPOINT", format!("http://{address}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "test".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }

    /// As settings name it.
    pub fn url() -> String {
        format!("s3://{BUCKET}/deep/orfeas")
    }

    /// The store, without a network between.
    pub fn storage(&self) -> Storage {
        Storage::open(&Self::url(), Self::variables(self.address)).unwrap()
    }
}
