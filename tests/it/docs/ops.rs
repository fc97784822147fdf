//! What operators run beside the server fits it: rules, dashboard, proxy, composed services.

use std::{collections::BTreeSet, process::Command};

use orfeas::http::serve::HEAD_MAX;
use serde_json::{Map, Value};

use super::{
    has_anchor,
    metrics::{documented, page_at_the_start},
    read,
};
use crate::harness::fetched::{checkout, skip};

fn yaml(path: &str) -> Value {
    serde_yaml_ng::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rules of all groups.
fn rules() -> Vec<Value> {
    let groups = yaml("docs/ops/rules.yml");
    let groups = groups["groups"].as_array().unwrap();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// Words of an expression that may name a metric: outside quotes, and with a prefix that metrics have.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let unquoted: String = expression.split('"').step_by(2).collect();
    let words = unquoted.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    words
        .filter(|word| {
            ["orfeas_", "process_", "orfeas:"]
                .iter()
                .any(|start| word.starts_with(start))
        })
        .map(str::to_owned)
        .collect()
}

/// A histogram's parts go by its name.
fn family(metric: &str) -> &str {
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|part| metric.strip_suffix(part))
        .unwrap_or(metric)
}

fn unknown(expression: &str) -> Vec<String> {
    let recorded: BTreeSet<String> = rules()
        .iter()
        .filter_map(|rule| Some(rule["record"].as_str()?.to_owned()))
        .collect();
    let told = documented();
    metrics_in(expression)
        .into_iter()
        .filter(|name| {
            !told.contains(name) && !told.contains(family(name)) && !recorded.contains(name)
        })
        .collect()
}

#[test]
fn rules_ask_for_metrics_that_there_are_and_alerts_lead_to_their_runbooks() {
    let (rules, operators) = (rules(), checkout().join("docs/OPERATIONS.md"));
    let mut alerts = 0;
    for rule in &rules {
        let expression = rule["expr"].as_str().unwrap();
        let unknown = unknown(expression);
        assert!(unknown.is_empty(), "{unknown:?} in {rule:#}");
        let Some(alert) = rule["alert"].as_str() else {
            continue;
        };
        alerts += 1;
        let runbook = rule["annotations"]["runbook"].as_str().unwrap();
        let anchor = runbook.strip_prefix("docs/OPERATIONS.md#").unwrap();
        assert!(has_anchor(&operators, anchor), "{alert}: {runbook}");
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        assert!(rule["annotations"]["summary"].is_string(), "{alert}");
    }
    assert!(alerts > 15, "{alerts}");
    // And no runbook is left of an alert that is gone.
    let names: BTreeSet<&str> = rules
        .iter()
        .filter_map(|rule| rule["alert"].as_str())
        .collect();
    let text = read("docs/OPERATIONS.md");
    let headings = text
        .lines()
        .filter_map(|line| line.strip_prefix("### Orfeas"));
    let gone: Vec<_> = headings
        .map(|rest| format!("Orfeas{rest}"))
        .filter(|heading| !names.contains(heading.as_str()))
        .collect();
    assert!(gone.is_empty(), "no alerts have these runbooks: {gone:?}");
}

/// The counters that an expression asks for, each with its matchers as they are written.
fn counters_in(expression: &str) -> Vec<(&str, &str)> {
    let begins = expression
        .match_indices("orfeas_")
        .map(|(at, _)| &expression[at..]);
    let asked = begins.filter_map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let matchers = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        name.ends_with("_total")
            .then_some((name, matchers.unwrap_or_default()))
    });
    asked.collect()
}

/// Whether a page has a series for each value that the matchers name.
fn has_series(page: &str, name: &str, matchers: &str) -> bool {
    let series: Vec<&str> = page
        .lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(name))
        .collect();
    let mut wanted = matchers
        .split(',')
        .filter(|matcher| !matcher.is_empty() && !matcher.contains('!'))
        .flat_map(|matcher| {
            let (label, values) = matcher.split_once('=').unwrap();
            let values = values.trim_start_matches('~').trim_matches('"');
            values
                .split('|')
                .map(move |value| format!("{}=\"{value}\"", label.trim()))
        });
    !series.is_empty() && wanted.all(|label| series.iter().any(|line| line.contains(&label)))
}

#[test]
fn counters_that_rules_ask_for_are_there_before_anything_has_happened() {
    let page = page_at_the_start();
    let mut asked = 0;
    for rule in rules() {
        for (name, matchers) in counters_in(rule["expr"].as_str().unwrap()) {
            assert!(has_series(&page, name, matchers), "{name}{{{matchers}}}");
            asked += 1;
        }
    }
    assert!(asked > 15, "{asked}");
    assert!(!has_series(&page, "orfeas_nonsense_total", ""));
    assert!(!has_series(
        &page,
        "orfeas_attempts_total",
        r#"outcome=~"failed|no""#
    ));
}

#[test]
fn expressions_are_searched_as_they_are_written() {
    let found =
        metrics_in(r#"rate(orfeas_a_bucket{code=~"orfeas_b"}[5m]) / orfeas:c:ratio > process_d"#);
    assert_eq!(
        Vec::from_iter(found),
        ["orfeas:c:ratio", "orfeas_a_bucket", "process_d"]
    );
    assert_eq!(
        unknown("sum(orfeas_nonsense_total)"),
        ["orfeas_nonsense_total"]
    );
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read("docs/ops/grafana/orfeas.json")).unwrap();
    let datasources = yaml("docs/ops/grafana/datasource.yml");
    let uid = &datasources["datasources"][0]["uid"];
    let panels = dashboard["panels"].as_array().unwrap();
    let mut expressions = 0;
    for target in panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
    {
        let expression = target["expr"].as_str().unwrap();
        let unknown = unknown(expression);
        assert!(unknown.is_empty(), "{unknown:?} in {target:#}");
        assert_eq!(&target["datasource"]["uid"], uid);
        expressions += 1;
    }
    assert!(expressions > 30, "{expressions}");
    let ids: BTreeSet<i64> = panels
        .iter()
        .map(|panel| panel["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
}

/// The words of a list.
fn words(list: &Value) -> BTreeSet<&str> {
    let list = list.as_array().unwrap();
    list.iter().filter_map(Value::as_str).collect()
}

/// The services whose names begin so.
fn named<'a>(services: &'a Map<String, Value>, start: &str) -> BTreeSet<&'a str> {
    let names = services.keys().map(String::as_str);
    names.filter(|name| name.starts_with(start)).collect()
}

#[test]
fn composed_services_mount_files_that_there_are_and_are_scraped() {
    let composed = yaml("docker-compose.yml");
    let services = composed["services"].as_object().unwrap();
    for (name, service) in services {
        let volumes = service["volumes"].as_array().into_iter().flatten();
        for mounted in volumes.filter_map(|volume| volume.as_str()?.strip_prefix("./")) {
            let (file, _) = mounted.split_once(':').unwrap();
            assert!(checkout().join(file).is_file(), "{name} mounts {file}");
        }
    }
    let prometheus = yaml("docs/ops/prometheus.yml");
    let job = &prometheus["scrape_configs"][0];
    assert_eq!(job["job_name"], "orfeas");
    let fixed = words(&job["static_configs"][0]["targets"]);
    let fixed: BTreeSet<&str> = fixed
        .iter()
        .filter_map(|target| target.strip_suffix(":9464"))
        .collect();
    let nodes = named(services, "api");
    assert_eq!(fixed, nodes, "one that is stopped must stay a target");
    let found = words(&job["dns_sd_configs"][0]["names"]);
    assert_eq!(found, named(services, "worker"));
    let proxy = read("docs/ops/Caddyfile");
    for node in &nodes {
        assert!(proxy.contains(&format!("{node}:8080")), "{node}");
    }
    assert!(proxy.contains("/readyz"));
    let idle = proxy
        .lines()
        .find_map(|line| line.trim().strip_prefix("keepalive ")?.strip_suffix('s'));
    let idle: u64 = idle.unwrap().parse().unwrap();
    assert!(idle < HEAD_MAX.as_secs(), "the node closes first");
    check_images(&composed["x-node"], services);
    for provisioning in ["dashboards.yml", "datasource.yml"] {
        assert_eq!(
            yaml(&format!("docs/ops/grafana/{provisioning}"))["apiVersion"],
            1
        );
    }
}

/// What is built without libtorch computes nothing, and the file of the image knows what it is asked for.
fn check_images(node: &Value, services: &Map<String, Value>) {
    let dockerfile = read(node["build"]["dockerfile"].as_str().unwrap());
    for (name, service) in services {
        let arguments = service["build"]["args"].as_object();
        for argument in arguments.into_iter().flat_map(Map::keys) {
            let line = format!("ARG {argument}=");
            assert!(dockerfile.contains(&line), "{name}: {line}");
        }
        let has_libtorch = service["build"]["args"]["LIBTORCH"] != "0";
        assert!(
            has_libtorch || service["environment"]["ORFEAS_ROLE"] == "api",
            "{name}"
        );
    }
}

/// `docker compose`, or the program that it once was, if there is one: `docker` may be without it.
fn compose() -> Option<Command> {
    let known: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    known.into_iter().find_map(|words| {
        let command = || {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            command
        };
        let version = command().arg("version").output();
        let is_there = version.is_ok_and(|output| output.status.success());
        is_there.then(command)
    })
}

#[test]
fn docker_compose_understands_the_composition() {
    let Some(mut command) = compose() else {
        skip("`docker compose`", "`apt-get install docker-compose`");
        return;
    };
    let text = read("docker-compose.yml");
    let required = text
        .split("${")
        .filter_map(|rest| Some((rest.split_once(":?")?.0, "x")));
    command.envs(required).current_dir(checkout()).args([
        "--file",
        "docker-compose.yml",
        "--profile",
        "cpu",
        "--profile",
        "gpu",
        "config",
        "--quiet",
    ]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
