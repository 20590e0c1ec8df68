//! Real signals to this process; alone in its binary, because signals are for the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::process::Command;
use std::time::Duration;

use portcullis_runtime::drain::{Drain, Phase};
use portcullis_runtime::signals::{Reload, Signals};

fn send(signal: &str) {
    let process = std::process::id().to_string();
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {process}")]).status().unwrap();
    assert!(status.success());
}

#[test]
fn hangup_reloads_the_first_stop_drains_the_second_forces() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (drain, reload) = (Drain::new(), Reload::new());
        let (watch, mut reloads) = (drain.watch(), reload.watch());
        tokio::spawn(Signals::install().unwrap().drive(drain.clone(), Duration::from_secs(3600), reload));

        send("HUP");
        reloads.requested().await;
        assert_eq!(drain.phase(), Phase::Running);

        send("TERM");
        watch.draining().await;
        assert!(matches!(drain.phase(), Phase::Draining { .. }));

        send("INT");
        watch.forced().await;
        assert_eq!(drain.phase(), Phase::Forced);
    });
}
