//! A gateway that is killed leaves no orphans.

use thinpipe_testkit::{Process, eventually};

use super::ending::all_gone;
use super::{next, scripted};

/// What the killed program is asked to do.
const ROLE: &str = "THINPIPE_TEST_ROLE";

/// Neither child nor grandchild, though both ignore what a terminal or a closed input would do. And not
/// either if the guard was killed in between: another one takes over what the first one watched.
#[tokio::test]
async fn a_killed_gateway_leaves_no_orphans() {
    if let Ok(role) = std::env::var(ROLE) {
        return be_killed(&role).await;
    }
    for role in ["plain", "guard-dies"] {
        let program = std::env::current_exe().unwrap();
        let mut command = tokio::process::Command::new(program);
        command.env(ROLE, role).args([
            "--exact",
            "stdio::guard::a_killed_gateway_leaves_no_orphans",
            "--nocapture",
        ]);
        let mut gateway = Process::start_command(command);
        let line = gateway.line_with("processes: ").await;
        let (_, processes) = line.split_once("processes: ").unwrap();
        gateway.kill().await;
        all_gone(processes.trim()).await;
    }
}

async fn be_killed(role: &str) {
    let script = r#"trap '' TERM HUP INT
        (while :; do sleep 1000; done) &
        printf '{"jsonrpc":"2.0","method":"%s %s"}\n' $$ $!
        while :; do wait; done"#;
    let scripted = scripted(script, |_| {});
    let mut first = scripted.spawn();
    let mut processes = next(&mut first.receiver).await["method"].clone();
    let mut second = None;
    if role == "guard-dies" {
        let guard = guard_of_this().expect("there is a guard");
        let killed = std::process::Command::new("kill")
            .args(["-KILL", &guard])
            .status();
        assert!(killed.unwrap().success());
        let mut pipe = scripted.spawn();
        let more = next(&mut pipe.receiver).await["method"].clone();
        processes = format!("{} {}", processes.as_str().unwrap(), more.as_str().unwrap()).into();
        second = Some(pipe);
        // What ended the first one takes its time, and so does whoever replaces it.
        eventually("another guard has taken over", async || {
            let now = guard_of_this().filter(|now| *now != guard);
            now.map(drop).ok_or_else(|| "there is none".to_owned())
        })
        .await;
    }
    println!("processes: {}", processes.as_str().unwrap());
    // Until it is killed.
    first.receiver.next().await;
    drop(second);
}

/// The process id of the shell that waits for the end of this process.
fn guard_of_this() -> Option<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap();
    let mut ids = processes.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_guard = |id: &String| {
        let read = |what: &str| std::fs::read(format!("/proc/{id}/{what}")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1));
        let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
        parent == Some(&own) && line.contains("read -r sign group")
    };
    ids.find(is_guard)
}
