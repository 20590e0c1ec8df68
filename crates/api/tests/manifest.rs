//! Files: what is read, what is refused, where it is, and how it is shown.

use std::fmt::Write as _;

use portcullis_api::diagnostic::{Diagnostic, Severity, Style};
use portcullis_api::manifest::{Limits, Loaded, load, parse};
use portcullis_api::schema::{Channel, Schemas, ViolationKind};
use proptest::prelude::*;
use serde_json::{Value, json};

fn values(text: &str) -> Vec<Value> {
    let manifest = parse("f.yaml", text, &Limits::default());
    assert_eq!(manifest.diagnostics, [], "{text}");
    manifest.documents.iter().map(|document| document.value().clone()).collect()
}

fn problems(text: &str, limits: &Limits) -> Vec<String> {
    let describe = |found: &Diagnostic| format!("{}:{} {} {}", found.line, found.column, found.code, found.message);
    parse("f.yaml", text, limits).diagnostics.iter().map(describe).collect()
}

fn loaded(text: &str) -> Loaded {
    load("f.yaml", text, &Limits::default(), &Schemas::v1_7_0(), "default")
}

#[test]
fn documents_are_read_as_kubectl_reads_them() {
    let cases = [
        ("a: 1\n---\nb: 2\n", json!([{"a": 1}, {"b": 2}])),
        ("---\n---\n# nothing\n---\na: 1\n---\n", json!([{"a": 1}])),
        ("\u{feff}a: 1\n", json!([{"a": 1}])),
        ("%YAML 1.1\n---\na: yes\n...\n", json!([{"a": true}])),
        ("a: on\nb: \"on\"\nc: 0777\nd: 1_000\ne: 1.0\n", json!([{"a": true, "b": "on", "c": 511, "d": 1000, "e": 1}])),
        ("on: push\n1: x\n2.5: z\n", json!([{"true": "push", "1": "x", "2.5": "z"}])),
        ("a: &x {b: 1}\nc: *x\n", json!([{"a": {"b": 1}, "c": {"b": 1}}])),
        ("x: &x {a: 1, b: 1}\nz:\n  <<: *x\n  b: 2\n", json!([{"x": {"a": 1, "b": 1}, "z": {"a": 1, "b": 2}}])),
        ("a: |\n  line\n  ---\n  line\n", json!([{"a": "line\n---\nline\n"}])),
        ("a: >-\n  one\n  two\n", json!([{"a": "one two"}])),
        ("a: !!str 1\nb: ! 2\nc: !!int \"3\"\n", json!([{"a": "1", "b": "2", "c": 3}])),
        ("{\"a\": [1, 2.0, null, true], \"b\": \"\\u00e9\\/\"}", json!([{"a": [1, 2, null, true], "b": "é/"}])),
        ("{\"a\": \"\\ud83d\\ude00\"}", json!([{"a": "😀"}])),
        ("{\n\t\"a\": 1\n}", json!([{"a": 1}])),
        ("a: 1\r\nb: 2\r\n", json!([{"a": 1, "b": 2}])),
    ];
    for (text, expected) in cases {
        assert_eq!(Value::Array(values(text)), expected, "{text}");
    }
}

#[test]
fn lists_are_flattened() {
    let text = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRouteList
  items:
  - {metadata: {name: b}, spec: {rules: [{name: 1}]}}
";
    let found = loaded(text);
    let names: Vec<&str> = found.objects.iter().map(|(object, _)| object.metadata().name.as_str()).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(found.refused.len(), 1);
    let lines: Vec<String> = found.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "error[wrong-type] at f.yaml:9:49: HTTPRoute default/b: spec.rules[0].name: Invalid value: 1: must be of type string, not integer"
        ]
    );
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let cases = [
        ("a: 1\na: 2\n", "2:1 yaml-duplicate-key key \"a\" is already set in this map"),
        ("a: {b: 1, b: 2}\n", "1:11 yaml-duplicate-key key \"b\" is already set in this map"),
        ("a: .inf\n", "1:4 yaml-syntax infinity and NaN have no place in an object"),
        ("? [a]\n: 1\n", "1:3 yaml-syntax the key of a map must be a scalar"),
        ("a: !secret b\n", "1:12 yaml-syntax the tag !secret has no meaning in an object"),
        ("a: \x1b[31m\n", "1:4 control-character control character \\u{1b} in the file"),
        ("a: 1 # \u{9b}\n", "1:8 control-character control character \\u{9b} in the file"),
        ("a: &x [*x]\n", "1:8 yaml-syntax an alias inside of the value that it names"),
        ("~: 1\n", "1:1 yaml-syntax a key is empty"),
        ("<<: 1\n", "1:5 yaml-syntax a merge key (<<) needs a map, or a list of maps"),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(text, &Limits::default()), [expected], "{text:?}");
    }
    for text in
        ["a: [1\n", "a: \"1\n", "a: *x\n", "a:\n\t- b\n", "a: b: c\n", "- a\nb: c\n", "{\"a\": 1, \"a\": 2}", "a: @b\n"]
    {
        let found = problems(text, &Limits::default());
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
    }
}

#[test]
fn a_broken_document_leaves_its_siblings_alone() {
    let text = "a: 1\n---\nb: [1, 2\n---\nc: \"never closed\n---\nd: |\n   x\n  y\n---\ne: 5\n";
    let manifest = parse("f.yaml", text, &Limits::default());
    let read: Vec<&Value> = manifest.documents.iter().map(|document| document.value()).collect();
    assert_eq!(read.first(), Some(&&json!({"a": 1})));
    assert_eq!(read.last(), Some(&&json!({"e": 5})));
    let lines: Vec<u32> = manifest.diagnostics.iter().map(|diagnostic| diagnostic.line).collect();
    assert_eq!(lines.len() + read.len(), 5);
    assert!(lines.is_sorted() && lines.iter().all(|line| (3..=9).contains(line)), "{lines:?}");
}

#[test]
fn every_bound_has_its_answer() {
    let limits = Limits {
        file_bytes: 100_000,
        objects: 3,
        values: 1_000,
        depth: 10,
        scalar_bytes: 100,
        copied_values: 50,
        diagnostics: 5,
    };
    let bomb = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
        }
        text
    };
    let merges = format!("x: &x {{k: {}}}\ny: [{}]", "v".repeat(99), vec!["{<<: *x}"; 100].join(","));
    let cases = [
        ("x".repeat(100_001), "yaml-limit"),
        (bomb, "yaml-limit"),
        (merges, "yaml-limit"),
        ("a: 1\n---\n".repeat(4), "yaml-limit"),
        (format!("[{}]", "1,".repeat(1_001)), "yaml-limit"),
        (format!("{}{}", "[".repeat(11), "]".repeat(11)), "yaml-limit"),
        (format!("a: {}", "x".repeat(101)), "yaml-limit"),
        (format!("a: &x [[[[[1]]]]]\nb: [[[[*x]]]]\nc: [[[[[[*x]]]]]]\n{}", ""), "yaml-limit"),
        ("a: [\n---\n".repeat(9), "yaml-syntax"),
    ];
    for (text, code) in cases {
        let found = parse("f.yaml", &text, &limits).diagnostics;
        assert_eq!(found.first().map(|diagnostic| diagnostic.code), Some(code), "{text:.60}: {found:?}");
        assert!(found.len() <= limits.diagnostics + 1);
    }
    // Deeper than any stack, under the defaults.
    for text in ["[".repeat(1_000_000), "{a: ".repeat(500_000), "- ".repeat(500_000), "? ".repeat(500_000)] {
        assert_eq!(parse("f.yaml", &text, &Limits::default()).diagnostics.len(), 1);
    }
    let deep: String = (0..5_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_eq!(parse("f.yaml", &deep, &Limits::default()).diagnostics.len(), 1);
}

#[test]
fn warnings_never_hide_an_error() {
    let unknown: String = (0..100).map(|index| format!("  unknown{index}: 1\n")).collect();
    let head = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n";
    let warned = loaded(&format!("{head}{unknown}"));
    assert_eq!((warned.objects.len(), warned.diagnostics.len()), (1, 33));
    assert!(warned.diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Warning));
    for mistake in ["  hostnames: [UPPER]\n", "  rules: [{backendRefs: [{name: svc}]}]\n"] {
        let refused = loaded(&format!("{head}{unknown}{mistake}"));
        assert_eq!(refused.objects.len(), 0, "{mistake}");
        assert!(
            refused.diagnostics.iter().any(|found| found.field.is_some() && found.severity == Severity::Error),
            "{mistake}"
        );
    }
}

const BAD_GATEWAY: &str = "# The edge.
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: web
spec:
  gatewayClassName: portcullis
  listeners:
  - name: http
    port: 70000
    protocol: HTTP
";

#[test]
fn a_diagnostic_shows_its_line() {
    let found = loaded(BAD_GATEWAY);
    let [diagnostic] = found.diagnostics.as_slice() else { unreachable!("{:?}", found.diagnostics) };
    assert_eq!(
        diagnostic.render(BAD_GATEWAY, Style::Plain),
        "error[invalid-value]: Gateway default/web: spec.listeners[0].port: Invalid value: 70000: should be less than or equal to 65535
  --> f.yaml:10:11
   |
10 |     port: 70000
   |           ^^^^^"
    );
    let coloured = diagnostic.render(BAD_GATEWAY, Style::Coloured);
    assert!(coloured.contains("\x1b[") && coloured.contains("70000"));
    assert_eq!(
        diagnostic.to_string(),
        "error[invalid-value] at f.yaml:10:11: Gateway default/web: spec.listeners[0].port: Invalid value: 70000: should be less \
         than or equal to 65535"
    );
}

#[test]
fn nothing_foreign_steers_the_terminal() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"a\\e[2J\", labels: {\"\\u202ex\": \"\\a\"}}\n";
    for source in ["f.yaml", "f\x1b[2J\n.yaml"] {
        let found = load(source, text, &Limits::default(), &Schemas::v1_7_0(), "default");
        assert!(!found.diagnostics.is_empty());
        for diagnostic in found.diagnostics {
            for shown in [diagnostic.render(text, Style::Plain), diagnostic.to_string()] {
                assert!(!shown.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{shown:?}");
            }
        }
    }
    let raw = "kind: \x1b]0;title\x07\n";
    let found = parse("f.yaml", raw, &Limits::default()).diagnostics;
    assert!(!found[0].render(raw, Style::Plain).contains(['\x1b', '\x07']));
}

#[test]
fn long_lines_are_cut_round_the_place() {
    let text = format!("{{apiVersion: v1, kind: ConfigMap, x: {}, metadata: {{name: UPPER}}}}\n", "y".repeat(10_000));
    let found = loaded(&text);
    assert!(found.diagnostics.iter().any(|diagnostic| diagnostic.code == "invalid-value"));
    for diagnostic in found.diagnostics {
        let shown = diagnostic.render(&text, Style::Plain);
        assert!(shown.lines().all(|line| line.chars().count() < 400), "{shown}");
    }
}

#[test]
fn no_diagnostic_shows_a_value_of_a_secret() {
    let cases = [
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  password: hunter2!\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  password: hunter2!\n  password: hunter2!\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringdata:\n  password: hunter2!\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: [hunter2!]\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: hunter2!\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: \"hunter2!\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: S, annotations: {x: hunter2!}}\nstringData:\n  a: hunter2!\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: {a: hunter2!}\nimmutable: hunter2!\n",
        "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"s\"},\"data\":{\"password\":\"hunter2!\"}}",
        "apiVersion: v1\nkind: List\nitems:\n- kind: Secret\n  apiVersion: v1\n  metadata: {name: s}\n  data:\n    name: hunter2!\n",
    ];
    for text in cases {
        let found = loaded(text);
        assert!(!found.diagnostics.is_empty(), "{text}");
        for diagnostic in found.diagnostics {
            let shown = diagnostic.render(text, Style::Plain);
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
            assert!(!diagnostic.to_string().contains("hunter2"), "{text}\n{diagnostic}");
        }
    }
}

#[test]
fn defaults_are_those_of_the_crds() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{name: gw}]\n  \
                rules:\n  - backendRefs: [{name: svc, port: 80}]\n";
    let mut documents = parse("f.yaml", text, &Limits::default()).documents;
    assert_eq!(documents[0].check(&Schemas::v1_7_0(), "app"), []);
    assert_eq!(
        documents[0].value(),
        &json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "r", "namespace": "app"},
            "spec": {
                "parentRefs": [{"name": "gw", "group": "gateway.networking.k8s.io", "kind": "Gateway"}],
                "rules": [{
                    "backendRefs": [{"name": "svc", "port": 80, "group": "", "kind": "Service", "weight": 1}],
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                }],
            },
        })
    );
}

#[test]
fn the_standard_channel_knows_less() {
    let cases = [
        (
            "gateway.networking.x-k8s.io/v1alpha1",
            "XMesh",
            json!({"controllerName": "a.b/c"}),
            Some(ViolationKind::NotUsed),
        ),
        ("gateway.networking.k8s.io/v1alpha2", "TCPRoute", json!({"rules": [{}]}), Some(ViolationKind::NotServed)),
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            json!({"rules": [{"sessionPersistence": {}}]}),
            Some(ViolationKind::UnknownField),
        ),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", json!({}), None),
    ];
    for (api_version, kind, spec, expected) in cases {
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec});
        let found = Schemas::of(Channel::Standard).validate(&mut object);
        assert_eq!(found.violations.first().map(|violation| violation.kind), expected, "{kind}: {found:?}");
    }
}

#[test]
fn rules_about_changes_need_the_old_object() {
    let class = |controller: &str| {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "c"},
            "spec": {"controllerName": controller}})
    };
    let schemas = Schemas::v1_7_0();
    assert!(schemas.validate(&mut class("a.b/c")).is_valid());
    assert!(schemas.validate_update(&mut class("a.b/c"), &class("a.b/c")).is_valid());
    let found = schemas.validate_update(&mut class("a.b/d"), &class("a.b/c"));
    let errors: Vec<String> = found.errors().map(ToString::to_string).collect();
    assert_eq!(errors, ["spec.controllerName: Invalid value: \"a.b/d\": field is immutable"]);
}

const GUIDE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: secure-gateway, namespace: infra}
spec:
  gatewayClassName: external-gateway
  listeners:
  - name: https
    protocol: HTTPS
    port: 443
    hostname: \"*.example.com\"
    tls: {mode: Terminate, certificateRefs: [{name: example-com-cert, kind: Secret}]}
    allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {gateway-access: \"true\"}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app, namespace: app}
spec:
  parentRefs: [{name: secure-gateway, namespace: infra}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /api}}]
    backendRefs: [{name: svc, port: 8080}]
---
apiVersion: v1
kind: Secret
metadata: {name: cert}
type: kubernetes.io/tls
data: {tls.crt: YQ==, tls.key: YQ==}
";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        drop(loaded(&text));
    }

    #[test]
    fn no_yaml_like_text_panics(text in "([-?:,\\[\\]{}#&*!|>'\"%@`a-c0-9 \t\n~=<.]|---\n|<<: |\\*a|&a |\n  ){0,80}") {
        drop(loaded(&text));
    }

    #[test]
    fn no_mutation_of_a_good_file_panics(at in 0..GUIDE.len(), length in 0_usize..40, by in "[-?:,\\[\\]{}#&*!|>'\"%@a-c0-9 \t\n~\u{1b}é]{0,6}") {
        let end = (at + length).min(GUIDE.len());
        let text = format!("{}{by}{}", &GUIDE[..at], &GUIDE[end..]);
        for diagnostic in loaded(&text).diagnostics {
            let lines = text.split('\n').count();
            prop_assert!(diagnostic.line as usize <= lines, "{diagnostic}");
            drop(diagnostic.render(&text, Style::Plain));
            prop_assert!(diagnostic.severity <= Severity::Error);
        }
    }
}
