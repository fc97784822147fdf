//! The pages: how they are served, and that what is committed is what the sources make.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use reqwest::{Response, header::HeaderMap};
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{
    Node, World,
    fetched::{checkout, fetched, output_of},
};

mod browser;

/// A dozen conversions on a busy machine, drawn by software.
const RUN_MAX: Duration = Duration::from_secs(400);
async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> Response {
    let client = reqwest::Client::new();
    let mut request = client.get(format!("http://{}{path}", node.app.api.unwrap()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map(|value| value.to_str().unwrap())
        .unwrap_or_default()
}

/// Paths of what a page loads first.
fn loaded(html: &str) -> Vec<&str> {
    html.split('"')
        .filter(|part| part.starts_with("/web/"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_served_with_a_strict_policy_and_shadow_nothing() {
    let world = World::new().await;
    let node = world.api_node().await;
    for path in [
        "/",
        "/admin",
        "/conversions/cnv_1",
        "/signed-in",
        "/console",
    ] {
        let page = get(&node, path, &[("accept", "text/html,*/*")]).await;
        assert_eq!(page.status(), 200, "{path}");
        let headers = page.headers().clone();
        assert_eq!(text(&headers, "content-type"), "text/html; charset=utf-8");
        assert_eq!(text(&headers, "cache-control"), "no-cache");
        assert_eq!(text(&headers, "x-content-type-options"), "nosniff");
        assert_eq!(text(&headers, "referrer-policy"), "no-referrer");
        let policy = text(&headers, "content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        let script = policy.split(';').find(|part| part.contains("script-src"));
        assert_eq!(
            script.unwrap().trim(),
            "script-src 'self'",
            "no inline script, no eval"
        );
        let is_console = path == "/console";
        assert_eq!(
            policy.contains("unsafe-inline"),
            is_console,
            "{path}: Monaco alone needs inline styles"
        );

        let known = [
            ("accept", "text/html"),
            ("if-none-match", text(&headers, "etag")),
        ];
        let again = get(&node, path, &known).await;
        assert_eq!(again.status(), 304, "{path}");
        assert!(headers.contains_key("etag") && again.bytes().await.unwrap().is_empty());

        let html = page.text().await.unwrap();
        let files = loaded(&html);
        assert!(!files.is_empty(), "{path}");
        for file in files {
            let plain = get(&node, file, &[]).await;
            assert_eq!(plain.status(), 200, "{file}");
            assert_eq!(
                text(plain.headers(), "cache-control"),
                "public, max-age=31536000, immutable"
            );
            assert!(
                !text(plain.headers(), "content-type").contains("html"),
                "{file}"
            );
            let bytes = plain.bytes().await.unwrap();
            let packed = get(&node, file, &[("accept-encoding", "gzip")]).await;
            let is_packed = text(packed.headers(), "content-encoding") == "gzip";
            assert_eq!(is_packed, bytes.len() > 1024, "{file}");
            assert!(!is_packed || packed.bytes().await.unwrap().len() < bytes.len());
        }
    }

    // Nobody signs people in here but whoever has a token.
    let sign_in = get(&node, "/sign-in.json", &[]).await;
    assert_eq!(text(sign_in.headers(), "cache-control"), "no-cache");
    assert_eq!(sign_in.text().await.unwrap(), r#"{"provider":null}"#);

    // Programs get words, the API keeps its paths, and what isn't there isn't a page.
    let words = get(&node, "/", &[("accept", "*/*")]).await;
    assert_eq!(
        text(words.headers(), "content-type"),
        "text/plain; charset=utf-8"
    );
    assert!(words.text().await.unwrap().contains("POST /graphql"));
    assert_eq!(
        get(&node, "/healthz", &[]).await.text().await.unwrap(),
        "alive\n"
    );
    for path in [
        "/assets/a/b",
        "/web/none.js",
        "/web/../index.html",
        "/nothing",
        "/metrics",
    ] {
        let missing = get(&node, path, &[("accept", "text/html")]).await;
        assert_eq!(missing.status(), 404, "{path}");
    }
    let query = get(
        &node,
        "/graphql?query={__typename}",
        &[("accept", "text/html")],
    )
    .await;
    assert!(text(query.headers(), "content-type").contains("json"));
    node.app.stop().await;
}

async fn run(command: Command) -> Output {
    output_of(command, RUN_MAX).await
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// All files below a folder, by their paths.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_committed_bundle_is_what_the_sources_make() {
    let Some(node) = fetched(".deps/node/bin/node", "web") else {
        return;
    };
    let Some(packages) = fetched(".deps/web/node_modules", "web") else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("web");
    let web = checkout().join("web");
    for entry in std::fs::read_dir(&web).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        if path.is_file() {
            std::fs::create_dir_all(&copy).unwrap();
            std::fs::copy(&path, copy.join(name)).unwrap();
        }
    }
    for (name, bytes) in files(&web.join("src")) {
        let place = copy.join("src").join(&name);
        if !name.starts_with("generated") {
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, bytes).unwrap();
        }
    }
    std::fs::copy(
        checkout().join("schema.graphql"),
        folder.path().join("schema.graphql"),
    )
    .unwrap();
    std::os::unix::fs::symlink(&packages, copy.join("node_modules")).unwrap();
    for program in [
        &[
            "node_modules/@graphql-codegen/cli/esm/bin.js",
            "--config",
            "codegen.json",
        ][..],
        &[
            "node_modules/typescript/bin/tsc",
            "--project",
            "tsconfig.json",
        ],
        &[
            "node_modules/vite/bin/vite.js",
            "build",
            "--logLevel",
            "error",
        ],
    ] {
        let mut command = Command::new(&node);
        command.args(program).current_dir(&copy);
        let output = run(command).await;
        assert!(output.status.success(), "{program:?}: {}", told(&output));
    }
    let (committed, built) = (files(&web.join("dist")), files(&copy.join("dist")));
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    let how = "run `npm ci && npm run build` in web and commit web/dist";
    assert_eq!(names(&committed), names(&built), "{how}");
    for (name, bytes) in &built {
        assert!(
            committed[name] == *bytes,
            "{} differs: {how}",
            name.display()
        );
    }
}
