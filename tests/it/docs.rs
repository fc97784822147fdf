//! What people read says what is so: settings, the reference, and links between files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use orfeas::config::Settings;
use tokio::process::Command;

use crate::harness::fetched::checkout;

mod metrics;
mod ops;

fn read(path: &str) -> String {
    std::fs::read_to_string(checkout().join(path)).unwrap()
}

/// The rows of a table whose first column is a setting: name and default, as they are written.
fn settings_of(text: &str) -> BTreeMap<String, String> {
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.strip_suffix('`')?.to_owned();
        let is_setting = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        is_setting.then_some((name, cells.next()?.trim_matches('`').to_owned()))
    });
    rows.collect()
}

#[test]
fn operators_read_every_setting_and_its_default() {
    let told = settings_of(&read("docs/OPERATIONS.md"));
    let defaults: toml::Table = toml::from_str(&Settings::default().shown()).unwrap();
    let known: BTreeMap<String, String> = Settings::names()
        .into_iter()
        .map(|name| {
            let default = match defaults.get(&name) {
                Some(toml::Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => "unset".to_owned(),
            };
            (name.to_uppercase(), default)
        })
        .collect();
    let differing = |(name, default): &(&String, &String)| told.get(*name) != Some(*default);
    let wrong: Vec<_> = known.iter().filter(differing).collect();
    assert!(
        wrong.is_empty(),
        "docs/OPERATIONS.md doesn't have these rows (`NAME` | `default`): {wrong:?}"
    );
    let gone: Vec<_> = told
        .keys()
        .filter(|name| !known.contains_key(*name))
        .collect();
    assert!(
        gone.is_empty(),
        "docs/OPERATIONS.md tells of settings that are gone: {gone:?}"
    );
}

#[tokio::test]
async fn the_reference_is_what_the_schema_says_and_leaves_nothing_out() {
    let mut command = Command::new("python3");
    command
        .arg(checkout().join(".tools/reference.py"))
        .arg("--check");
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn documents() -> Vec<PathBuf> {
    let pages = std::fs::read_dir(checkout().join("docs")).unwrap();
    let pages = pages.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = pages
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    found.extend(
        ["README.md", "CONTRIBUTING.md", "examples/README.md"].map(|name| checkout().join(name)),
    );
    found
}

/// The anchor that a heading gets: lower case, blanks as hyphens, no other marks.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    kept.collect()
}

/// Whether a heading is found there: who comes second to a name gets a number.
fn has_anchor(path: &Path, wanted: &str) -> bool {
    let text = std::fs::read_to_string(path).unwrap();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .any(|name| {
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            let place = match *count {
                1 => name,
                more => format!("{name}-{}", more - 1),
            };
            place == wanted
        })
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let pictures = text
            .split("src=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        for link in links.chain(pictures) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let is_there = target.exists() && (section.is_empty() || has_anchor(&target, section));
            if !is_there {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
