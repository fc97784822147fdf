//! What operators run beside the server fits it: rules, dashboard, proxy, composed services.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{has_anchor, metrics::documented, read};
use crate::harness::fetched::checkout;

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

#[test]
fn composed_services_mount_files_that_there_are_and_scrape_each_node() {
    let composed = yaml("docker-compose.yml");
    let services = composed["services"].as_object().unwrap();
    for (name, service) in services {
        let volumes = service["volumes"].as_array().into_iter().flatten();
        for mounted in volumes.filter_map(|volume| volume.as_str()?.strip_prefix("./")) {
            let (file, _) = mounted.split_once(':').unwrap();
            assert!(checkout().join(file).is_file(), "{name} mounts {file}");
        }
    }
    let scraped = yaml("docs/ops/prometheus.yml");
    let scraped: BTreeSet<&str> = scraped["scrape_configs"][0]["dns_sd_configs"][0]["names"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let nodes: BTreeSet<&str> = services
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with("api") || name.starts_with("worker"))
        .collect();
    assert_eq!(scraped, nodes);
    let proxy = read("docs/ops/Caddyfile");
    for node in nodes.iter().filter(|name| name.starts_with("api")) {
        assert!(proxy.contains(&format!("{node}:8080")), "{node}");
    }
    assert!(proxy.contains("/readyz"));
    let dockerfile = composed["x-node"]["build"]["dockerfile"].as_str().unwrap();
    assert!(checkout().join(dockerfile).is_file());
    for provisioning in ["dashboards.yml", "datasource.yml"] {
        assert_eq!(
            yaml(&format!("docs/ops/grafana/{provisioning}"))["apiVersion"],
            1
        );
    }
}
