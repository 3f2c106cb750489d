//! What `deploy/` and `docs/` say about the program is true: metrics, labels, causes, anchors.

#[path = "support/program.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use program::{get, program, serving, simulate, until};
use serde_json::Value;

/// Prometheus' own, and what the kubelet (cAdvisor) and kube-state-metrics tell of a container.
const FOREIGN: [&str; 8] = [
    "up",
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_file_descriptors",
    "container_memory_working_set_bytes",
    "container_ulimits_soft",
    "kube_pod_container_resource_limits",
    "kube_pod_container_status_restarts_total",
];
/// Labels that Prometheus and Kubernetes give to every series, and those of the foreign ones.
const TARGET_LABELS: [&str; 7] = ["job", "instance", "namespace", "pod", "container", "resource", "ulimit"];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a YAML file.
fn yaml(path: &str) -> Vec<Value> {
    let documents = read(path);
    let documents = documents.split("\n---\n").map(serde_yaml_ng::from_str);
    documents.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All values of this key, however deep.
fn all<'a>(key: &str, node: &'a Value, found: &mut Vec<&'a str>) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| all(key, item, found)),
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|field| all(key, field, found));
        }
        _ => {}
    }
}

fn all_of<'a>(key: &str, node: &'a Value) -> Vec<&'a str> {
    let mut found = Vec::new();
    all(key, node, &mut found);
    found
}

/// The series of a camera that the program reads and writes, with the values of each label: as Prometheus reads them.
fn series() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let (_camera, url) = simulate(&[]);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy-metrics.toml");
    fs::write(&file, format!("[[camera]]\nid = \"door\"\nurl = \"{url}\"\nwrite = \"json\"\nout = \"/dev/null\"\n"))
        .unwrap();
    let (_fleet, address) = serving(program().arg("fleet").arg(file).args(["--metrics", "0"]), "metrics");
    let text = until("a frame", || {
        let (_, text) = get(&address, "/metrics");
        let text = text.split_once("\r\n\r\n")?.1.to_owned();
        (text.contains("kvs_hls_frames_total") && !text.contains("kvs_hls_frames_total{camera_id=\"door\"} 0\n"))
            .then_some(text)
    });
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once('{').unwrap();
        let labels: &mut BTreeMap<_, BTreeSet<_>> = series.entry(name.to_owned()).or_default();
        for label in rest.split_once('}').unwrap().0.split(',') {
            let (label, value) = label.split_once('=').unwrap();
            labels.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    series
}

/// What a PromQL expression names.
#[derive(Debug, Default, PartialEq)]
struct Named {
    metrics: BTreeSet<String>,
    /// In matchers and in lists such as that of `by`.
    labels: BTreeSet<String>,
    /// The causes that matchers ask for.
    causes: Vec<String>,
}

/// Enough of a reader for PromQL's names: durations, strings and numbers are passed over.
fn named(expression: &str) -> Named {
    // Aggregations too: their list may stand before the parenthesis.
    const OPERATORS: [&str; 8] = ["and", "or", "unless", "bool", "offset", "sum", "count", "topk"];
    const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut named = Named::default();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let inside = |close: char| after.trim_start()[1..].split_once(close).unwrap();
        rest = match first {
            '{' => {
                let (matchers, after) = rest[1..].split_once('}').unwrap();
                for matcher in matchers.split(',').map(str::trim).filter(|matcher| !matcher.is_empty()) {
                    let (label, text) = matcher.split_at(matcher.find(['=', '!']).unwrap());
                    named.labels.insert(label.to_owned());
                    if label == "cause" {
                        let causes = text.split('"').nth(1).unwrap().split('|');
                        named.causes.extend(causes.map(str::to_owned));
                    }
                }
                after
            }
            '[' => rest.split_once(']').unwrap().1,
            _ if first.is_ascii_digit() => after, // 0.95, 30m
            _ if !is_name(first) => &rest[first.len_utf8()..],
            _ if LISTS.contains(&word) => {
                let (labels, after) = inside(')');
                named.labels.extend(labels.split(',').map(|label| label.trim().to_owned()));
                after
            }
            _ => {
                let is_function = after.trim_start().starts_with('(');
                if !is_function && !OPERATORS.contains(&word) {
                    named.metrics.insert(word.to_owned());
                }
                after
            }
        };
    }
    named
}

#[test]
fn names_are_found_in_expressions() {
    let named = named(
        r#"histogram_quantile(0.95, sum by (le, camera_id) (rate(a_bucket{cause=~"x|y", b!="1"}[5m] offset 1h)))
           / on (pod) group_left (node) (c > bool 1e3) unless d{} == 1 or sum(e) without (f) > 0"#,
    );
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(named.metrics, set(&["a_bucket", "c", "d", "e"]));
    assert_eq!(named.labels, set(&["le", "camera_id", "cause", "b", "pod", "node", "f"]));
    assert_eq!(named.causes, ["x", "y"]);
}

/// Expressions by the file they stand in.
fn expressions() -> Vec<(&'static str, String)> {
    let alerts = yaml("deploy/prometheus/alerts.yaml");
    let dashboard = json("deploy/grafana/dashboard.json");
    let rules = all_of("expr", &alerts[0]).into_iter().map(|text| ("alerts.yaml", text.to_owned()));
    let panels = all_of("expr", &dashboard).into_iter().map(|text| ("dashboard.json", text.to_owned()));
    // label_values(METRIC, LABEL) of the variables.
    let variables = all_of("definition", &dashboard).into_iter().map(|text| {
        let arguments = text.strip_prefix("label_values(").and_then(|text| text.strip_suffix(')')).unwrap();
        let (metric, label) = arguments.split_once(", ").unwrap();
        ("dashboard.json", format!("sum by ({label}) ({metric})"))
    });
    rules.chain(panels).chain(variables).collect()
}

#[test]
fn every_metric_label_and_cause_of_an_expression_exists() {
    let series = series();
    let expressions = expressions();
    assert!(expressions.len() > 50, "{}", expressions.len());
    let mut used = BTreeSet::new();
    for (file, expression) in &expressions {
        let named = named(expression);
        assert!(!named.metrics.is_empty(), "{file}: no metric in {expression}");
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for metric in &named.metrics {
            assert!(
                FOREIGN.contains(&metric.as_str()) || series.contains_key(metric),
                "{file}: {metric} does not exist, in {expression}"
            );
            for (label, values) in series.get(metric).into_iter().flatten() {
                labels.entry(label).or_default().extend(values.iter().map(String::as_str));
            }
        }
        for label in &named.labels {
            let is_known = TARGET_LABELS.contains(&label.as_str()) || labels.contains_key(label.as_str());
            assert!(is_known, "{file}: no label {label} in {expression}");
        }
        for cause in &named.causes {
            assert!(labels["cause"].contains(cause.as_str()), "{file}: no cause {cause} in {expression}");
        }
        if *file == "dashboard.json" {
            used.extend(named.metrics);
        }
    }
    // The other way round: nothing that is counted is missing from the dashboard.
    let family =
        |name: &str| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned);
    let used: BTreeSet<_> = used.iter().map(|name| family(name).unwrap_or(name.clone())).collect();
    for name in series.keys() {
        let name = family(name).unwrap_or(name.clone());
        assert!(used.contains(&name), "{name} is shown nowhere");
    }
    let families: BTreeSet<_> = series.keys().map(|name| family(name).unwrap_or(name.clone())).collect();
    for path in ["README.md", "docs/operating.md", "docs/tuning.md", "docs/migrating.md"] {
        let is_name =
            |span: &&str| span.starts_with("kvs_hls_") && !span.contains(|c: char| !c.is_alphanumeric() && c != '_');
        for name in spans(&read(path)).into_iter().filter(is_name) {
            assert!(families.contains(name), "{path}: {name} does not exist");
        }
    }
}

/// A heading's anchor, as code hosts make it.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_alert_says_what_it_is_and_where_help_stands() {
    let alerts = yaml("deploy/prometheus/alerts.yaml");
    let anchors = anchors(&read("docs/operating.md"));
    let mut names = BTreeSet::new();
    for group in alerts[0]["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            assert!(names.insert(name), "{name} twice");
            let annotations = &rule["annotations"];
            for key in ["summary", "description"] {
                assert!(annotations[key].as_str().is_some_and(|text| !text.is_empty()), "{name}: no {key}");
            }
            assert!(matches!(rule["labels"]["severity"].as_str(), Some("warning" | "critical")), "{name}: severity");
            let anchor = annotations["runbook_url"].as_str().and_then(|url| url.strip_prefix("docs/operating.md#"));
            assert_eq!(anchor, Some(name.to_lowercase().as_str()), "{name}");
            assert!(anchors.contains(&name.to_lowercase()), "docs/operating.md has no heading {name}");
        }
    }
    assert!(names.len() > 10);
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = json("deploy/grafana/dashboard.json");
    let variables: Vec<_> = all_of("name", &dashboard["templating"]);
    assert_eq!(variables, ["datasource", "camera_id"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "an id twice");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} overlaps", panel["title"]);
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
            assert!(!panel["targets"].as_array().unwrap().is_empty());
        }
    }
}

/// Links between the documents, and the names of files that they lead to.
#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md")];
    for folder in ["docs", "deploy", "deploy/kubernetes"] {
        let files = fs::read_dir(root.join(folder)).into_iter().flatten().map(|entry| entry.unwrap().path());
        documents.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { document.clone() } else { document.with_file_name(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            if let Some(anchor) = anchor {
                let there = anchors(&fs::read_to_string(target).unwrap());
                assert!(there.contains(anchor), "{}: {link} has no such heading", document.display());
            }
        }
    }
}

fn output(args: &[&str], variables: &[(&str, &str)]) -> Output {
    program().args(args).envs(variables.iter().copied()).output().unwrap()
}

/// Runs `fleet` on this file with these arguments, without asking any camera.
fn check(name: &str, cameras: &str, args: &[&str], variables: &[(&str, &str)]) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("deploy-{name}.toml"));
    fs::write(&path, cameras).unwrap();
    let args = [&["fleet", path.to_str().unwrap(), "--check"], args].concat();
    let said = output(&args, variables);
    assert!(said.status.success(), "{name}: {args:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// The documents of a manifest by kind.
fn manifest(path: &str) -> BTreeMap<String, Value> {
    let documents = yaml(path).into_iter();
    documents.map(|document| (document["kind"].as_str().unwrap().to_owned(), document)).collect()
}

/// What holds for each workload: it reads its own ConfigMap, with arguments that the program takes, as nobody in particular.
fn look_at_workload(name: &str, all: &BTreeMap<String, Value>, workload: &Value, pods: &Value, variable: (&str, &str)) {
    let pod = &workload["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let shards = container["env"].as_array().unwrap().iter().find(|entry| entry["name"] == "KVS_HLS_SHARDS").unwrap();
    assert_eq!(shards["value"].as_str().unwrap(), pods.to_string(), "{name}: shards and pods");
    let args: Vec<_> = container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    assert_eq!(args[..2], ["fleet", "/etc/kvs-hls/cameras.toml"]);
    let map = &all["ConfigMap"];
    let cameras = map["data"]["cameras.toml"].as_str().unwrap();
    check(name, cameras, &args[2..], &[("KVS_HLS_SHARDS", shards["value"].as_str().unwrap()), variable]);
    let mount = container["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["name"] == "cameras").unwrap();
    assert_eq!(mount["mountPath"], "/etc/kvs-hls");
    assert!(mount.get("subPath").is_none(), "with it, changes of the ConfigMap would not come through");
    let volume = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "cameras").unwrap();
    assert_eq!(volume["configMap"]["name"], map["metadata"]["name"]);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    assert!(pod["terminationGracePeriodSeconds"].is_u64());
    assert_eq!(container["resources"]["requests"]["memory"], container["resources"]["limits"]["memory"]);
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels, &workload["metadata"]["labels"]);
}

#[test]
fn the_manifests_fit_together_and_the_program_takes_their_arguments() {
    let fleet = manifest("deploy/kubernetes/fleet.yaml");
    let versions: Vec<_> =
        fleet.iter().map(|(kind, document)| (kind.as_str(), document["apiVersion"].as_str())).collect();
    assert_eq!(
        versions,
        [
            ("ConfigMap", Some("v1")),
            ("PodDisruptionBudget", Some("policy/v1")),
            ("Service", Some("v1")),
            ("ServiceAccount", Some("v1")),
            ("StatefulSet", Some("apps/v1")),
        ]
    );
    let set = &fleet["StatefulSet"];
    look_at_workload("fleet", &fleet, set, &set["spec"]["replicas"], ("HOSTNAME", "kvs-hls-2"));
    let template = &set["spec"]["template"];
    assert_eq!(set["spec"]["serviceName"], fleet["Service"]["metadata"]["name"]);
    assert_eq!(set["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]);
    assert_eq!(fleet["Service"]["spec"]["selector"], template["metadata"]["labels"]);
    assert_eq!(fleet["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]);
    assert_eq!(template["spec"]["serviceAccountName"], fleet["ServiceAccount"]["metadata"]["name"]);
    let container = &template["spec"]["containers"][0];
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"]);
    }
    assert_eq!(container["ports"][0]["containerPort"], 9100);
    assert!(container["args"].as_array().unwrap().iter().any(|arg| arg == "0.0.0.0:9100"));
    assert_eq!(template["metadata"]["annotations"]["prometheus.io/port"], "9100");

    let archive = manifest("deploy/kubernetes/archive-job.yaml");
    let job = &archive["Job"];
    assert_eq!((&job["apiVersion"], &job["spec"]["completionMode"]), (&"batch/v1".into(), &"Indexed".into()));
    look_at_workload("archive", &archive, job, &job["spec"]["completions"], ("JOB_COMPLETION_INDEX", "1"));
}

#[test]
fn docker_and_kubectl_are_told_of_what_there_is() {
    let set = &manifest("deploy/kubernetes/fleet.yaml")["StatefulSet"];
    let job = &manifest("deploy/kubernetes/archive-job.yaml")["Job"];
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let [name, container, image] =
        [&set["metadata"]["name"], &container["name"], &container["image"]].map(|value| value.as_str().unwrap());
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["image"], image);
    assert!(image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))), "{image}");
    let mut seen = 0;
    for path in ["deploy/kubernetes/README.md", "docs/operating.md"] {
        let text = read(path);
        let words: Vec<_> =
            text.split(|c: char| c.is_whitespace() || c == '`').filter(|word| !word.is_empty()).collect();
        for words in words.windows(3) {
            let is_there = match words {
                [_, "-f", file] => Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file(),
                [_, "-t", tag] | ["docker", "push", tag] => *tag == image,
                ["rollout", "status" | "restart", workload] => *workload == format!("statefulset/{name}"),
                ["kubectl", "debug" | "port-forward", pod] => *pod == format!("{name}-0"),
                [_, "-l", label] => *label == format!("app.kubernetes.io/name={name}"),
                [_, _, option] if option.starts_with("--target=") => *option == format!("--target={container}"),
                _ => continue,
            };
            assert!(is_there, "{path}: {words:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 10, "names in commands");
}

/// Texts between backticks, outside code blocks.
fn spans(markdown: &str) -> Vec<&str> {
    let prose = markdown.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_option_of_the_documents_exists() {
    let help: String = ["frames", "fleet", "probe", "demo", "simulate"]
        .iter()
        .map(|command| String::from_utf8(output(&[command, "--help"], &[]).stdout).unwrap())
        .collect();
    let is_option = |name: &str| help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == name);
    assert!(is_option("--select") && !is_option("--metrics-por"));
    let mut settings = BTreeSet::new();
    for path in ["docs/operating.md", "docs/tuning.md", "docs/migrating.md", "deploy/kubernetes/README.md", "README.md"]
    {
        let text = read(path);
        for span in spans(&text) {
            if span.starts_with("--") {
                let name = span.split([' ', ':']).next().unwrap();
                assert!(is_option(name), "{path}: {span}");
            }
            // The README speaks of Cargo's.
            settings.extend(span.split_once(" = ").filter(|_| path != "README.md").map(|_| span.to_owned()));
        }
    }
    // The knobs: each stands in the first cell of a row.
    let (tuning, limits) = (read("docs/tuning.md"), read("src/limits.rs"));
    let rows = tuning.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    for knob in rows.flat_map(spans).filter(|span| !span.contains(' ')) {
        let is_known = is_option(&format!("--{}", knob.replace('_', "-"))) || limits.contains(&format!("pub {knob}:"));
        assert!(is_known, "docs/tuning.md: {knob}");
    }
    assert!(settings.len() > 10, "{settings:?}");
    let cameras = settings.iter().enumerate().map(|(number, setting)| {
        // What else such a setting needs.
        let more = match setting.split(' ').next().unwrap() {
            "playback" => "start = \"2026-01-31T12:00:00Z\"\nend = \"2026-01-31T13:00:00Z\"\n",
            "refresh_margin" => "session_duration = \"1h\"\n",
            _ => "",
        };
        format!("[[camera]]\nid = \"{number}\"\nstream = \"a\"\nregion = \"us-east-1\"\n{more}{setting}\n")
    });
    check("settings", &cameras.collect::<String>(), &[], &[]);
}

#[test]
fn prometheus_takes_its_files_and_the_alerts_say_what_they_should() {
    let promtool = |args: &[&str]| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
        Command::new("promtool").args(args).current_dir(folder).output()
    };
    for args in [["check", "config", "prometheus.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let Ok(said) = promtool(&args) else {
            return eprintln!("note: no promtool on this machine, so Prometheus does not look at its files");
        };
        let text = [said.stdout, said.stderr].concat();
        assert!(said.status.success(), "promtool {args:?}\n{}", String::from_utf8_lossy(&text));
    }
}
