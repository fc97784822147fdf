//! People's ways through the pages in a real Chromium, in front of a real server and the real model. Each way is a
//! program in `web/e2e`.

use std::{net::SocketAddr, path::Path, path::PathBuf, process::Stdio, time::Duration};

use orfeas::{
    auth::jwt::Tokens,
    config::{Role, Settings},
    conversion::NodeId,
    db::{
        Database,
        entities::node::{Device, Devices},
        nodes::{HEARTBEAT, NodeInfo},
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use super::{run, told};
use crate::harness::{
    World,
    fetched::{checkout, fetched, skip},
    meshes,
    process::NodeProcess,
};

/// Where Debian and others put it.
const CHROMIUM: [&str; 3] = [
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
];
/// How long an identity provider may take to start, and a restarted server's page to end.
const LINE_MAX: Duration = Duration::from_secs(400);

/// What the programs need besides this repository.
struct Programs {
    node: PathBuf,
    packages: PathBuf,
    chromium: Option<&'static str>,
}

impl Programs {
    /// Those of the browser tests.
    fn with_browser() -> Option<Self> {
        let Some(chromium) = CHROMIUM.into_iter().find(|path| Path::new(path).exists()) else {
            skip("Chromium", "`apt-get install chromium`");
            return None;
        };
        let chromium = Some(chromium);
        Some(Self {
            chromium,
            ..Self::without_browser()?
        })
    }

    fn without_browser() -> Option<Self> {
        Some(Self {
            node: fetched(".deps/node/bin/node", "web")?,
            packages: fetched(".deps/web", "web")?,
            chromium: None,
        })
    }

    /// One of the programs, for a server, and the folder that it writes to.
    fn program(&self, name: &str, api: SocketAddr, settings: &Settings) -> (Command, TempDir) {
        let folder = TempDir::new().unwrap();
        let tokens = Tokens::new(&settings.keyring().unwrap()).between(settings.token_parties());
        let token = |user: &str, roles: &[String]| {
            let lasts = Duration::from_secs(3600);
            tokens.issue(user, roles, lasts)
        };
        let mut command = Command::new(&self.node);
        command
            .arg(checkout().join("web/e2e").join(name))
            .env("ORFEAS_URL", format!("http://{api}"))
            .env("ORFEAS_ADMIN", token("root", &["admin".to_owned()]))
            .env("ORFEAS_USER", token("alice", &[]))
            .env("PACKAGES", &self.packages)
            .env("OUT", folder.path())
            // Profiles and sockets of the browser.
            .env("TMPDIR", folder.path())
            .kill_on_drop(true);
        if let Some(chromium) = self.chromium {
            command.env("CHROMIUM", chromium);
        }
        (command, folder)
    }

    /// Runs one of the programs against a node of its own; what it wrote is in the folder.
    async fn run(&self, name: &str) -> TempDir {
        self.run_in(&World::new().await, name).await
    }

    async fn run_in(&self, world: &World, name: &str) -> TempDir {
        let settings = Settings {
            // The pages get by with their own documents, whatever an operator allows besides.
            orfeas_trusted_documents_only: self.chromium.is_some(),
            ..world.settings()
        };
        let node = world.node_with(settings.clone()).await;
        let (command, folder) = self.program(name, node.app.api.unwrap(), &settings);
        let output = run(command).await;
        assert!(output.status.success(), "{name}: {}", told(&output));
        node.app.stop().await;
        folder
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_pictures_become_meshes_in_the_studio() {
    let Some(programs) = Programs::with_browser() else {
        return;
    };
    let folder = programs.run("studio.mjs").await;
    for index in 0..3 {
        let mesh = std::fs::read(folder.path().join(format!("{index}.glb"))).unwrap();
        meshes::glb(&mesh).assert_centred(1.0);
        let stl = std::fs::read(folder.path().join(format!("{index}.stl"))).unwrap();
        let triangles = u32::from_le_bytes(stl[80..84].try_into().unwrap());
        assert_eq!(stl.len(), 84 + 50 * triangles as usize);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_in_the_studio() {
    if let Some(programs) = Programs::with_browser() {
        programs.run("errors.mjs").await;
    }
}

/// The sign of life of a node with two GPUs, of which one has failed.
async fn beat(database: Database) {
    let node = NodeInfo {
        id: NodeId::new(),
        name: "gpu-box".to_owned(),
        role: "worker",
        version: "0.1.0",
        master_keys: vec!["test".to_owned()],
    };
    let device = |index: u32, lost: Option<&str>| Device {
        name: format!("GPU {index}"),
        kind: "cuda".to_owned(),
        memory_total_bytes: Some(80_000_000_000),
        memory_free_bytes: Some(70_000_000_000),
        batch_images_max: 8,
        lost: lost.map(str::to_owned),
    };
    let devices = Devices(vec![
        device(0, None),
        device(1, Some("It fell off the bus.")),
    ]);
    loop {
        database.heartbeat(&node, &devices).await.unwrap();
        tokio::time::sleep(HEARTBEAT).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_have_a_page_and_a_console() {
    let Some(programs) = Programs::with_browser() else {
        return;
    };
    let world = World::new().await;
    let database = world.database().await;
    database.migrate().await.unwrap();
    let beating = tokio::spawn(beat(database));
    programs.run_in(&world, "admin.mjs").await;
    beating.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_visit_is_light() {
    if let Some(programs) = Programs::with_browser() {
        programs.run("budget.mjs").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough() {
    if let Some(programs) = Programs::with_browser() {
        programs.run("keyboard.mjs").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_is_wide_enough() {
    if let Some(programs) = Programs::with_browser() {
        programs.run("phone.mjs").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snippets_for_frontends_work() {
    if let Some(programs) = Programs::without_browser() {
        programs.run("frontends.mjs").await;
    }
}

/// A line that a program writes; it must come.
async fn line(child: &mut Child) -> Option<String> {
    let output = child.stdout.as_mut().unwrap();
    let mut lines = BufReader::with_capacity(1, output).lines();
    let next = tokio::time::timeout(LINE_MAX, lines.next_line());
    next.await.expect("it says something").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_lives_through_the_end_of_its_server() {
    let Some(programs) = Programs::with_browser() else {
        return;
    };
    let world = World::new().await;
    let mut node = NodeProcess::start(&world);
    let address = node.api;
    let (mut command, _folder) = programs.program("restart.mjs", address, &world.settings());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while let Some(order) = line(&mut child).await {
        match order.as_str() {
            "kill" => node.kill(),
            "start" => node = NodeProcess::start_at(&world, address),
            other => panic!("{other}"),
        }
        let answer = child.stdin.as_mut().unwrap();
        answer.write_all(b"done\n").await.unwrap();
    }
    assert!(child.wait().await.unwrap().success());
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_at_an_identity_provider() {
    let Some(programs) = Programs::with_browser() else {
        return;
    };
    if fetched(".deps/web/node_modules/oidc-provider", "web").is_none() {
        return;
    }
    let world = World::new().await;
    // Each of the two must know the other's address before it starts.
    let address = free_address();
    let (mut command, _scratch) = programs.program("provider.mjs", address, &world.settings());
    // It warns of being for development, which it is.
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut provider = command.spawn().unwrap();
    let issuer = line(&mut provider).await.expect("the provider's address");
    let settings = Settings {
        orfeas_role: Role::Api,
        orfeas_listen: address,
        orfeas_jwt_jwks: Some(format!("{issuer}/jwks")),
        orfeas_jwt_issuer: Some(issuer.clone()),
        orfeas_jwt_audience: Some("https://orfeas.example/graphql".to_owned()),
        orfeas_jwt_client_id: Some("studio".to_owned()),
        orfeas_jwt_scopes: "openid profile offline_access".to_owned(),
        ..world.settings()
    };
    let node = world.node_with(settings.clone()).await;
    let (mut command, _folder) = programs.program("sign-in.mjs", address, &settings);
    command.env("ISSUER", &issuer);
    let output = run(command).await;
    assert!(output.status.success(), "{}", told(&output));
    node.app.stop().await;
}
