//! `portcullis check`: what it prints, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use serde_json::Value;
use std::process::Output;
use support::{Authority, Folder, GATEWAY, portcullis, route, service};

fn check(arguments: &[&str], input: &str) -> (i32, String, String) {
    let Output { status, stdout, stderr } = portcullis(&[&["check"][..], arguments].concat(), input);
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Checks standard input and gives what was printed, when it ended as it should.
#[track_caller]
fn checked(expected: i32, arguments: &[&str], input: &str) -> String {
    let (code, out, error) = check(&[&["-"][..], arguments].concat(), input);
    assert_eq!(code, expected, "{out}\n{error}");
    out
}

/// A Gateway, a good route, and one without its Service.
fn objects() -> String {
    let labelled = route("good", "/", "app").replace("name: good,", "name: good, labels: { tier: front },");
    [GATEWAY, &labelled, &route("bad", "/bad", "nobody"), &service("app", &[9001])].join("---\n")
}

/// Columns apart by one space.
fn squeezed(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_table_shows_each_object_and_the_first_thing_that_is_wrong_with_it() {
    assert_eq!(
        squeezed(&checked(1, &[], &objects())),
        [
            "NAMESPACE OBJECT SECTION STATUS MESSAGE",
            "infra Gateway/web OK",
            "infra Gateway/web listener http OK 2 attached routes",
            "GatewayClass/portcullis OK",
            "apps HTTPRoute/bad parent infra/web ResolvedRefs=False/BackendNotFound spec.rules[0].backendRefs[0]: Service \
             apps/nobody does not exist",
            "apps HTTPRoute/good parent infra/web OK",
        ]
    );
}

#[test]
fn wide_shows_every_condition() {
    let out = checked(1, &["-o", "wide"], &objects());
    assert!(out.contains("Accepted=True/Accepted ResolvedRefs=False/BackendNotFound"), "{out}");
}

#[test]
fn names_are_those_of_kubectl() {
    let out = checked(1, &["-o", "name"], &objects());
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            "gateway.gateway.networking.k8s.io/web",
            "gatewayclass.gateway.networking.k8s.io/portcullis",
            "httproute.gateway.networking.k8s.io/bad",
            "httproute.gateway.networking.k8s.io/good",
        ]
    );
}

#[test]
fn json_and_yaml_are_lists_as_kubectl_prints_them_and_say_the_same() {
    let json: Value = serde_json::from_str(&checked(1, &["-o", "json"], &objects())).unwrap();
    let yaml: Value = serde_saphyr::from_str(&checked(1, &["-o", "yaml"], &objects())).unwrap();
    assert_eq!(json, yaml);
    assert_eq!((&json["kind"], &json["apiVersion"]), (&"List".into(), &"v1".into()));
    let bad = json["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "bad").unwrap();
    assert_eq!(bad["metadata"]["generation"], 1);
    let conditions = bad["status"]["parents"][0]["conditions"].as_array().unwrap();
    let resolved = conditions.iter().find(|condition| condition["type"] == "ResolvedRefs").unwrap();
    assert_eq!((&resolved["status"], &resolved["reason"]), (&"False".into(), &"BackendNotFound".into()));
    assert_eq!(bad["status"]["parents"][0]["controllerName"], "portcullis.dev/gateway-controller");
}

#[test]
fn objects_are_chosen_as_in_kubectl() {
    for (arguments, code, names) in [
        (&["-n", "apps"][..], 1, &["portcullis", "bad", "good"][..]),
        (&["-n", "infra"], 0, &["web", "portcullis"]),
        (&["-A"], 1, &["web", "portcullis", "bad", "good"]),
        (&["-l", "tier=front"], 0, &["good"]),
        (&["-l", "tier"], 0, &["good"]),
        (&["-l", "tier!=front", "-n", "apps"], 1, &["portcullis", "bad"]),
        (&["-l", "tier in (front, back)"], 0, &["good"]),
        (&["-l", "other"], 0, &[]),
    ] {
        let out = checked(code, &[&["-o", "name"], arguments].concat(), &objects());
        let shown: Vec<&str> = out.lines().map(|line| line.split_once('/').unwrap().1).collect();
        assert_eq!(shown, names, "{arguments:?}");
    }
}

#[test]
fn the_namespace_is_that_of_objects_that_name_none() {
    let gateway = GATEWAY.replace(", namespace: infra", "");
    let json: Value = serde_json::from_str(&checked(0, &["-n", "mine", "-o", "json"], &gateway)).unwrap();
    assert_eq!(json["items"][0]["metadata"]["namespace"], "mine");
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let folder = Folder::new();
    folder.write("good.yaml", &[GATEWAY, &route("good", "/", "app"), &service("app", &[9001])].join("---\n"));
    let path = folder.path().to_str().unwrap();
    assert_eq!(check(&[path], "").0, 0);
    for wrong in [
        &[][..],
        &[path, "--no-such-flag"],
        &[path, "-o", "xml"],
        &[path, "-l", "a,,b"],
        &[path, "-l", "a in b"],
        &[path, "-n", "a", "-A"],
    ] {
        let (code, out, error) = check(wrong, "");
        assert_eq!((code, out.as_str()), (2, ""), "{wrong:?}: {error}");
        assert!(!error.is_empty());
    }
    let (code, _, error) = check(&[path, "/does/not/exist"], "");
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("/does/not/exist"), "{error}");
    folder.write("bad.yaml", "kind: [");
    assert_eq!(check(&[path], "").0, 1);
    let (code, out, _) = check(&[Folder::new().path().to_str().unwrap()], "");
    assert_eq!((code, out.as_str()), (0, "No YAML or JSON files found.\n"));
}

#[test]
fn warnings_are_errors_when_asked_for() {
    let unknown = service("app", &[9001]).replace("spec:", "spec:\n  clustrIP: 10.0.0.1");
    let (code, _, error) = check(&["-"], &unknown);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("warning[unknown-field]") && error.contains("clustrIP"), "{error}");
    let (code, _, error) = check(&["-", "--strict"], &unknown);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("error[unknown-field]"), "{error}");
}

/// The guide's sections 2 to 4 as printed: what is missing is named, and what the grant really does.
#[test]
fn the_guide_as_printed_says_what_is_missing() {
    let guide = [
        include_str!("guide/2-secure-gateway.yaml"),
        include_str!("guide/3-security-headers.yaml"),
        include_str!("guide/4-reference-grant.yaml"),
    ]
    .join("---\n");
    let out = checked(1, &[], &guide);
    for part in [
        "Secret infra/example-com-cert: the Secret does not exist",
        "NotAllowedByListeners",
        "GatewayClassAssumed",
        "add a Namespace app-namespace with label gateway-access: \"true\"",
        "ReferenceGrantUnused",
        "a ReferenceGrant speaks for its own namespace",
        "in their own namespace, which needs no grant",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }

    let furniture =
        "apiVersion: v1\nkind: Namespace\nmetadata: { name: app-namespace, labels: { gateway-access: 'true' } }\n";
    let service = service("backend-service", &[9001]).replace("namespace: apps", "namespace: app-namespace");
    let certificate = Authority::new().sign("*.example.com").secret("example-com-cert");
    let out = checked(0, &[], &[&guide, furniture, &service, &certificate].join("\n---\n"));
    assert!(out.contains("1 attached route") && out.contains("ReferenceGrantUnused"), "{out}");
}

#[test]
fn what_is_wrong_in_a_file_is_shown_with_its_line() {
    let folder = Folder::new();
    folder.write(
        "broken.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: broken, namespace: apps }\nspec:\n  \
         rules:\n  - matches:\n    - path: { type: PathPrefix, value: no-slash }\n---\napiVersion: v1\nkind: Service\n\
         metadata: { name: app, namespace: apps }\nspec:\n  ports: [{ port: 70000 }]\n---\nkind: [\n",
    );
    let (code, _, error) = check(&[folder.path().to_str().unwrap()], "");
    assert_eq!(code, 1);
    let error = error.replace(folder.path().to_str().unwrap(), "FOLDER");
    let expected = include_str!("check/broken.txt");
    assert_eq!(error, expected, "\n{error}");
}

#[test]
fn values_of_secrets_are_never_shown() {
    let certificate = Authority::new().sign("app.example.com");
    let other = Authority::new().sign("app.example.com");
    let key = other.key.lines().nth(1).unwrap();
    let unfit = support::certificate::Certificate { chain: certificate.chain.clone(), key: other.key.clone() };
    let https = "  - { name: https, protocol: HTTPS, port: 443, tls: { certificateRefs: [{ name: web }] } }\n";
    for secret in [
        unfit.secret("web"),
        unfit.secret("web").replace("  tls.key", "  tls.key: 7\n  tls.key"),
        unfit.secret("web").replace("kubernetes.io/tls", "[1]"),
        unfit.secret("web").replace("stringData:\n  tls.crt", "stringData:\n tls.crt"),
        unfit.secret("web").replace("    -----END", "  -----END"),
        unfit.secret("web").replace("stringData", "data"),
    ] {
        for format in ["table", "wide", "yaml", "json"] {
            let (code, out, error) = check(&["-", "-o", format], &[GATEWAY, https, "---\n", &secret].concat());
            assert_eq!(code, 1, "{error}");
            for line in other.key.lines().filter(|line| !line.starts_with("-----")) {
                assert!(!out.contains(line) && !error.contains(line), "a piece of the key is shown:\n{out}{error}");
            }
            assert!(!error.contains(&key[..16]) && !out.contains(&key[..16]));
        }
    }
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let escape = "\\e[2J\\a\\u202e\\x9b";
    let folder = Folder::new();
    folder
        .write("gateway.yaml", &GATEWAY.replace("name: http,", &format!("name: \"http{escape}\",")))
        .write("route.yaml", &route("r", &format!("\"/{escape}\""), &format!("\"{escape}\"")))
        .write("class.yaml", &GATEWAY.replace("portcullis }", &format!("\"{escape}\" }}")))
        .write(
            "unknown.yaml",
            &format!("apiVersion: \"{escape}/v1\"\nkind: \"{escape}\"\nmetadata: {{ name: \"{escape}\" }}\n"),
        )
        .write("raw.yaml", "kind: \u{1b}[2J\n")
        .write("broken\u{1b}[2J.yaml", "kind: [");
    let labels = "l: \u{1b}[2J";
    for arguments in [&["-o", "table"][..], &["-o", "wide"], &["-o", "name"], &["-l", labels], &["-n", "\u{1b}[2J"]] {
        let (_, out, error) = check(&[&[folder.path().to_str().unwrap()], arguments].concat(), "");
        for text in [out, error] {
            let raw = text.chars().find(|character| {
                character.is_control() && *character != '\n' || matches!(character, '\u{202a}'..='\u{202e}')
            });
            assert_eq!(raw, None, "{arguments:?}\n{text:?}");
        }
    }
}

#[test]
fn hostile_files_are_refused_and_the_rest_is_shown() {
    let bomb = (1..10).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        let alias = format!("*a{},", level - 1).repeat(9);
        format!("{text}a{level}: &a{level} [{alias}]\n")
    });
    let deep = "[".repeat(100_000);
    for (name, hostile) in [
        ("alias bomb", bomb.as_str()),
        ("deep nesting", &deep),
        ("no text", "\u{0}\u{1}\u{2}"),
        ("unclosed", "\"never closed"),
        ("unknown kind", "apiVersion: v1\nkind: Nothing\nmetadata: { name: x }\n"),
        ("no object", "- 1\n- 2\n"),
    ] {
        let folder = Folder::new();
        folder.write("a.yaml", hostile).write("gateway.yaml", GATEWAY);
        let (code, out, error) = check(&[folder.path().to_str().unwrap()], "");
        assert!(out.contains("Gateway/web") && out.contains("OK"), "{name}: {code} {out}\n{error}");
        assert!(error.contains("a.yaml") || name == "unknown kind", "{name}: {error}");
        assert!(error.len() < 10_000, "{name}: {} bytes of diagnostics", error.len());
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    use std::process::{Command, Stdio};
    let folder = Folder::new();
    folder.write("gateway.yaml", GATEWAY);
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", folder.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
