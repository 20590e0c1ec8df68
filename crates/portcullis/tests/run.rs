//! `portcullis run`: how it starts and ends, what it does with what goes wrong, and what it shows of itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use support::client::{get, trust};
use support::{Authority, Backend, Client, Folder, GATEWAY, Program, Run, portcullis, route, service, wait_until};

const HOST: &str = "app.example.com";

/// A Gateway on port 80, and a route of everything to one backend.
fn simple(backend: &Backend) -> Folder {
    let folder = Folder::new();
    folder
        .write("gateway.yaml", GATEWAY)
        .write("route.yaml", &route("all", "/", "app"))
        .write("app.yaml", &service("app", &[backend.port()]));
    folder
}

fn start(folder: &Folder) -> Program {
    Run::new(folder.path(), &[80]).start()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_path_that_does_not_exist_ends_with_3() {
    let output = portcullis(&["run", "/does/not/exist", "--telemetry-address", "none"], "");
    assert_eq!(output.status.code(), Some(3));
    let told = text(&output.stderr);
    assert!(told.contains("/does/not/exist") && told.contains("No such file"), "{told}");
}

#[test]
fn a_gateway_of_which_no_port_can_be_bound_ends_with_4_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    folder.write("gateway.yaml", GATEWAY);
    let mapping = format!("80={}", taken.local_addr().unwrap().port());
    let path = folder.path().to_str().unwrap();
    let output =
        portcullis(&["run", path, "--port", &mapping, "--address", "127.0.0.1", "--telemetry-address", "none"], "");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    for part in ["another program listens there", "`--port 80=", "infra/web", "no port could be bound"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_telemetry_address_that_is_taken_ends_with_4_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    folder.write("gateway.yaml", GATEWAY);
    let address = taken.local_addr().unwrap().to_string();
    let output = portcullis(&["run", folder.path().to_str().unwrap(), "--telemetry-address", &address], "");
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("name another with --telemetry-address"));
}

#[test]
fn an_access_log_that_cannot_be_opened_ends_with_4_and_names_the_file() {
    let folder = Folder::new();
    folder.write("gateway.yaml", GATEWAY);
    let path = folder.path().to_str().unwrap();
    let output = portcullis(&["run", path, "--access-log", "/does/not/exist/log", "--telemetry-address", "none"], "");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("/does/not/exist/log") && told.contains("--access-log"), "{told}");
}

#[test]
fn a_port_that_is_taken_harms_no_other_and_is_served_once_it_is_free() {
    let backend = Backend::start("app");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = simple(&backend);
    let listener = "  - { name: more, protocol: HTTP, port: 8080, allowedRoutes: { namespaces: { from: All } } }\n";
    folder.write("gateway.yaml", &format!("{GATEWAY}{listener}"));
    let mapping = format!("8080={}", taken.local_addr().unwrap().port());
    let program = Run::new(folder.path(), &[80]).arguments(&["--port", &mapping]).start();

    assert_eq!(get(program.address(80), HOST, "/").status, 200);
    let told = program.log.wait_for("the failure", |line| line.contains("not listening"));
    assert!(told.contains("another program listens there") && told.contains("`--port 8080="), "{told}");
    assert_eq!(program.metric("portcullis_ports{state=\"failed\"}"), 1.0);

    let address = taken.local_addr().unwrap();
    drop(taken);
    program.log.wait_for("the good news", |line| line.contains("the port is served now"));
    assert_eq!(get(address, HOST, "/").status, 200);
    wait_until("that is counted", || program.metric("portcullis_ports{state=\"failed\"}") == 0.0);
}

#[test]
fn a_folder_that_disappears_keeps_serving_and_is_followed_again_when_it_is_back() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    let inside = folder.file("objects");
    fs::create_dir(&inside).unwrap();
    for name in ["gateway.yaml", "route.yaml", "app.yaml"] {
        fs::rename(folder.file(name), inside.join(name)).unwrap();
    }
    let program = Run::new(&inside, &[80]).arguments(&["--poll-interval", "0.1"]).start();
    let address = program.address(80);
    assert_eq!(get(address, HOST, "/").status, 200);

    fs::rename(&inside, folder.file("away")).unwrap();
    program.log.wait_for("the loss", |line| line.contains("unreadable") && line.contains("stay in force"));
    assert_eq!(get(address, HOST, "/").status, 200);

    fs::rename(folder.file("away"), &inside).unwrap();
    fs::write(inside.join("route.yaml"), route("all", "/only", "app")).unwrap();
    wait_until("the change counts", || get(address, HOST, "/").status == 404);
    assert_eq!(get(address, HOST, "/only").status, 200);
}

#[test]
fn what_is_broken_keeps_its_last_good_version_while_the_rest_changes() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    let program = start(&folder);
    let address = program.address(80);
    for broken in [
        "kind: [HTTPRoute",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: all, namespace: apps }\nspec: 7\n",
        &route("all", "no-slash", "app"),
        "a: &a [*a, *a]",
        "\u{0}",
    ] {
        let told = program.log.all().len();
        folder.write("route.yaml", broken);
        program.log.wait_for("the diagnostic", |line| line.contains("route.yaml") && line.contains("error["));
        wait_until("the diagnostic is told", || program.log.all().len() > told);
        assert_eq!(get(address, HOST, "/").status, 200, "{broken}");
    }
    folder.write("more.yaml", &route("more", "/more", "nobody"));
    wait_until("another file counts", || get(address, HOST, "/more").status == 500);
    assert_eq!(get(address, HOST, "/").status, 200);
    assert!(program.log.all().iter().all(|line| line.chars().all(|character| !character.is_control())));
}

#[test]
fn nothing_to_serve_is_told_and_waited_for() {
    let backend = Backend::start("app");
    let folder = Folder::new();
    let mut program = start(&folder);
    program.log.wait_for("the warning", |line| line.contains("no Gateway with a listener that can be served"));
    assert!(program.is_running());
    folder.write("gateway.yaml", GATEWAY).write("route.yaml", &route("all", "/", "app"));
    folder.write("app.yaml", &service("app", &[backend.port()]));
    let address = program.address(80);
    wait_until("it is served", || get(address, HOST, "/").status == 200);
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    for signal in ["TERM", "INT"] {
        let backend = Backend::start("app");
        let folder = simple(&backend);
        let mut program = start(&folder);
        let address = program.address(80);
        let mut client = Client::connect(address).unwrap();
        client.send("GET", HOST, "/held", &[]).unwrap();
        wait_until("the backend has it", || backend.held() == 1);

        program.signal(signal);
        wait_until("the port is closed", || Client::connect(address).is_err());
        let health = get(program.telemetry(), "localhost", "/readyz");
        assert_eq!(health.status, 503, "not ready while it drains: {}", health.text());
        assert_eq!(get(program.telemetry(), "localhost", "/healthz").status, 200);
        assert!(program.is_running());

        backend.let_go();
        let response = client.receive("GET").unwrap();
        assert_eq!((response.status, client.is_closing), (200, true));
        assert_eq!(program.wait().code(), Some(0));
        let line: Value = serde_json::from_str(program.output.all().last().unwrap()).unwrap();
        assert_eq!((&line["path"], &line["status"]), (&"/held".into(), &200.into()), "the last line is written");
    }
}

#[test]
fn a_second_signal_cuts_what_is_open() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    let mut program = start(&folder);
    let mut client = Client::connect(program.address(80)).unwrap();
    client.send("GET", HOST, "/held", &[]).unwrap();
    wait_until("the backend has it", || backend.held() == 1);
    program.signal("TERM");
    program.log.wait_for("the drain", |line| line.contains("drain begins"));
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(client.receive("GET").map_or(true, |response| response.status >= 500));
    assert!(program.log.text().contains("1 connections"), "what was cut is counted: {}", program.log.text());
}

#[test]
fn a_drain_that_takes_too_long_is_cut() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    let mut program = Run::new(folder.path(), &[80]).arguments(&["--drain-timeout", "0.2"]).start();
    let mut client = Client::connect(program.address(80)).unwrap();
    client.send("GET", HOST, "/held", &[]).unwrap();
    wait_until("the backend has it", || backend.held() == 1);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_hangup_reads_the_files_and_opens_the_access_log_again() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    let logs = Folder::new();
    let log = logs.file("access.log");
    let program = Run::new(folder.path(), &[80]).arguments(&["--access-log", log.to_str().unwrap()]).start();
    let address = program.address(80);
    let logged = |path: &str| fs::read_to_string(&log).is_ok_and(|text| text.contains(path));
    get(address, HOST, "/first");
    wait_until("the first line is written", || logged("/first"));

    // As logrotate does it.
    fs::rename(&log, logs.file("access.log.1")).unwrap();
    program.signal("HUP");
    wait_until("the log is there again", || log.exists());
    get(address, HOST, "/second");
    wait_until("the second line is written", || logged("/second"));
    assert!(!logged("/first"));
    program.log.wait_for("the reload", |line| line.contains("SIGHUP"));
}

#[test]
fn ready_only_with_a_complete_configuration() {
    let folder = Folder::new();
    folder.write("gateway.yaml", GATEWAY);
    let mut program = start(&folder);
    let telemetry = program.telemetry();
    assert_eq!(get(telemetry, "localhost", "/healthz").status, 200);
    wait_until("it is ready", || get(telemetry, "localhost", "/readyz").status == 200);
    assert_eq!(program.metric("portcullis_config_generation"), 1.0, "ready means that the first one is served");
    assert_eq!(get(telemetry, "localhost", "/config").status, 404, "not for everyone who reaches the telemetry");
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_route_cannot_reach_the_gateway_s_own_servers() {
    let folder = Folder::new();
    folder.write("gateway.yaml", GATEWAY).write("route.yaml", &route("all", "/", "app"));
    let program = start(&folder);
    let (http, telemetry) = (program.address(80), program.telemetry());
    folder.write("app.yaml", &service("app", &[telemetry.port()]));
    wait_until("the endpoint is refused", || {
        assert_ne!(get(http, HOST, "/metrics").status, 200);
        get(telemetry, "localhost", "/metrics").text().contains("reason=\"Forbidden\"")
    });
    assert_eq!(get(http, HOST, "/metrics").status, 503);
}

#[test]
fn metrics_count_exactly() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    folder.write("gateway.yaml", &format!("{GATEWAY}{}", https_listener()));
    let authority = Authority::new();
    folder.write("certificate.yaml", &authority.sign(HOST).secret("web"));
    folder.write("other.yaml", &route("other", "/other", "nobody"));
    let program = Run::new(folder.path(), &[80, 443]).start();
    let (http, https) = (program.address(80), program.address(443));
    let trusted = trust(&authority.pem);

    for _ in 0..7 {
        assert_eq!(get(http, HOST, "/").status, 200);
    }
    for _ in 0..3 {
        assert_eq!(get(http, HOST, "/other").status, 500);
    }
    let mut client = Client::connect_tls(https, HOST, &trusted).unwrap();
    for _ in 0..5 {
        assert_eq!(client.get(HOST, "/").unwrap().status, 200);
    }
    let nobody = trust(&Authority::new().pem);
    for _ in 0..2 {
        assert!(Client::connect_tls(https, HOST, &nobody).is_err());
    }

    let requests = |listener: &str, route: &str, class: &str| {
        program.metric(&format!(
            "portcullis_requests_total{{gateway=\"infra/web\",listener=\"{listener}\",route=\"HTTPRoute/apps/{route}\",code_class=\"{class}\"}}"
        ))
    };
    // A response is counted when its last byte was handed over: the client may be a moment ahead.
    wait_until("all are counted", || {
        (requests("http", "all", "2xx"), requests("http", "other", "5xx"), requests("https", "all", "2xx"))
            == (7.0, 3.0, 5.0)
    });
    assert_eq!(requests("http", "all", "5xx"), 0.0);
    let text = get(program.telemetry(), "localhost", "/metrics").text();
    assert!(text.ends_with("# EOF\n"), "OpenMetrics has an end");
    let failures = || {
        let text = get(program.telemetry(), "localhost", "/metrics").text();
        let samples = text.lines().filter(|line| line.starts_with("portcullis_tls_handshake_failures_total{"));
        samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum::<f64>()
    };
    wait_until("the failed handshakes are counted", || failures() == 2.0);
    assert_eq!(program.metric("portcullis_config_generation"), 1.0);
    folder.write("other.yaml", &route("other", "/another", "app"));
    wait_until("the change is counted", || program.metric("portcullis_config_generation") == 2.0);
    assert!(program.metric("portcullis_config_applied_timestamp_seconds") > 0.0);
}

#[test]
fn the_access_log_says_where_a_request_went_and_how_long_it_took() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    let program = start(&folder);
    let address = program.address(80);
    get(address, HOST, "/a/../b?secret=1");
    get(address, "nobody\u{7f}.example.com", "/c");
    let line = program.output.wait_for_json("the line", |line| line["path"] == "/b");
    for (field, expected) in [
        ("gateway", Value::from("infra/web")),
        ("listener", "http".into()),
        ("route", "HTTPRoute/apps/all".into()),
        ("rule", 0.into()),
        ("backend", "apps/app:8080".into()),
        ("endpoint", backend.address.to_string().into()),
        ("tries", 1.into()),
        ("method", "GET".into()),
        ("host", HOST.into()),
        ("status", 200.into()),
        ("client", "127.0.0.1".into()),
        ("protocol", "HTTP/1.1".into()),
        ("flags", Value::Array(Vec::new())),
    ] {
        assert_eq!(line[field], expected, "{field}");
    }
    assert!(line["duration"].as_f64() >= line["upstream_duration"].as_f64(), "{line}");
    assert_eq!(line["request_id"].as_str().unwrap().len(), 32);
    assert!(!line.to_string().contains("secret"), "the query is not logged unless asked for: {line}");
    let refused = program.output.wait_for_json("the refused one", |line| line["status"] == 400);
    assert!(!refused["reason"].as_str().unwrap().is_empty(), "{refused}");
}

#[test]
fn the_admin_socket_shows_the_model_without_secrets_and_drains() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    folder.write("gateway.yaml", &format!("{GATEWAY}{}", https_listener()));
    let certificate = Authority::new().sign(HOST);
    folder.write("certificate.yaml", &certificate.secret("web"));
    let sockets = Folder::new();
    let socket = sockets.file("admin.sock");
    let mut program =
        Run::new(folder.path(), &[80, 443]).arguments(&["--admin-address", socket.to_str().unwrap()]).start();
    program.address(443);
    let ask = |method: &str, path: &str| Client::connect_unix(&socket).request(method, "localhost", path, &[]).unwrap();

    let shown = ask("GET", "/config").text();
    let config: Value = serde_json::from_str(&shown).unwrap();
    let gateway = &config["infra/web"];
    assert_eq!(gateway["listeners"]["https"]["port"], 443);
    assert!(gateway["routes"]["HTTPRoute/apps/all"].is_object());
    assert!(gateway["certificates"]["infra/web"].is_object());
    assert!(!shown.contains("PRIVATE KEY"));
    for line in certificate.key.lines().filter(|line| !line.starts_with("-----")) {
        assert!(!shown.contains(line), "a piece of the key is shown");
    }

    assert_eq!(ask("GET", "/drain").status, 405, "only asking does not drain");
    let answer = ask("POST", "/drain");
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(program.wait().code(), Some(0));
    assert!(!socket.exists(), "the socket goes with the program");
}

#[test]
fn wrong_settings_end_with_2_and_show_how_to_write_them() {
    for (arguments, shown) in [
        (["--port", "https=8443"], "443=8443"),
        (["--port", "443"], "443=8443"),
        (["--workers", "0"], "1 to 1024"),
        (["--telemetry-address", "9090"], "0.0.0.0:9090"),
        (["--admin-address", "0.0.0.0:1"], "loopback"),
        (["--trusted-proxy", "10.0.0.0/40"], "10.0.0.0/8"),
        (["--drain-timeout", "soon"], "seconds"),
        (["--log-level", "portcullis=loud=7"], "--log-level"),
        (["--address", "localhost"], "--address"),
    ] {
        let output = portcullis(&[&["run", "."][..], &arguments[..]].concat(), "");
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(shown), "{arguments:?}: {told}");
    }
}

#[test]
fn standard_input_is_served_and_ready_only_once_it_has_ended() {
    let backend = Backend::start("app");
    let mut program = Run::new("-".as_ref(), &[80]).start_with_input();
    let telemetry = program.telemetry();
    let health = get(telemetry, "localhost", "/readyz");
    assert_eq!(health.status, 503, "{}", health.text());
    assert!(health.text().contains("the first complete configuration is not served yet"), "{}", health.text());
    assert_eq!(get(telemetry, "localhost", "/healthz").status, 200);

    let objects = [GATEWAY, &route("all", "/", "app"), &service("app", &[backend.port()])].join("---\n");
    program.end_input(&objects);
    assert_eq!(get(program.address(80), HOST, "/").status, 200);
    wait_until("it is ready", || get(telemetry, "localhost", "/readyz").status == 200);
}

#[test]
fn many_files_change_at_once_and_end_at_the_last_word() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    let program = start(&folder);
    let address = program.address(80);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let path = folder.path().to_path_buf();
            thread::spawn(move || {
                for round in 0..50 {
                    let name = format!("r{writer}-{round}");
                    fs::write(path.join(format!("{name}.yaml")), route(&name, &format!("/{name}"), "nobody")).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    wait_until("the last of each counts", || {
        (0..4).all(|writer| get(address, HOST, &format!("/r{writer}-49")).status == 500)
    });
    assert_eq!(get(address, HOST, "/").status, 200);
}

#[test]
fn a_crash_leaves_no_core_which_would_hold_keys() {
    let backend = Backend::start("app");
    let folder = simple(&backend);
    for name in ["ABRT", "SEGV"] {
        let place = tempfile::tempdir().unwrap();
        let mut program = Run::new(folder.path(), &[80]).within(place.path()).start();
        program.lift_the_core_limit();
        assert_eq!(get(program.address(80), HOST, "/").status, 200);
        // A SIGSEGV that was sent is taken for an overflow of the stack at first.
        wait_until("the program ends", || {
            if program.is_running() {
                program.signal(name);
            }
            !program.is_running()
        });
        let status = program.wait();
        assert!(status.signal().is_some() && !status.core_dumped(), "{name}: {status}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{name} left a file");
    }
}

fn https_listener() -> &'static str {
    "  - { name: https, protocol: HTTPS, port: 443, hostname: app.example.com, tls: { certificateRefs: [{ name: web }] }, \
     allowedRoutes: { namespaces: { from: All } } }\n"
}
