//! Servers that are programs.

use thinpipe_gateway::{ChildUpstream, Reached, Sharing};
use thinpipe_proto::revision::Binding;

use super::bridge::only;
use super::messages::{upstream_says, wrong};
use super::*;

fn child(spec: &UpstreamSpec) -> &ChildUpstream {
    match &spec.reached {
        Reached::Stdio(child) => child,
        Reached::Http(http) => panic!("{http:?}"),
    }
}

fn words(words: &[std::ffi::OsString]) -> Vec<&str> {
    words.iter().map(|word| word.to_str().unwrap()).collect()
}

const WHOLE: &str = r#"
[[upstreams]]
name = "files"
command = "npx"
args = ["-y", "server-files", "--root=${API_TOKEN}"]
env = { API_KEY = "${API_TOKEN}", MODE = "hunter2" }
cwd = "/"
inherit_env = true
sessions = "shared"
max_message = "1 MiB"
process = { max_noise = 7, stdin_grace = "3s", term_grace = "4s" }
"#;

/// C24: every setting of a server on stdio reaches its place.
#[test]
fn c24_every_setting_of_a_program_reaches_its_place() {
    let config = toml(WHOLE).unwrap().config;
    let spec = &config.gateway.upstreams[0];
    assert_eq!((&**spec.name(), &*spec.path), ("files", "/mcp"));
    assert_eq!(spec.max_message, 1 << 20);
    let ChildUpstream { process, .. } = child(spec);
    assert_eq!(spec.bridge.sessions, Some(Sharing::Shared));
    assert_eq!(process.command, "npx");
    let secret = "--root=s3cret-of-the-upstream";
    assert_eq!(words(&process.args), ["-y", "server-files", secret]);
    let env: Vec<_> = process.env.iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(words(&env), ["s3cret-of-the-upstream", "hunter2"]);
    assert_eq!(process.cwd.as_deref(), Some(Path::new("/")));
    assert!(process.inherit_env);
    assert_eq!((process.max_message, process.max_noise), (1 << 20, 7));
    assert_eq!(process.stdin_grace.as_secs(), 3);
    assert_eq!(process.term_grace.as_secs(), 4);

    let plain = toml("[[upstreams]]\ncommand = \"npx\"\n").unwrap().config;
    let spec = &plain.gateway.upstreams[0];
    let ChildUpstream { process, .. } = child(spec);
    assert_eq!(spec.bridge.sessions, None);
    assert!(!process.inherit_env && process.env.is_empty() && process.args.is_empty());
}

/// I5: what is shown reads back as the same, and holds no secret.
#[test]
fn i5_the_effective_configuration_of_a_program_holds_no_secret() {
    let shown = toml(WHOLE).unwrap().to_toml().unwrap();
    for secret in ["s3cret", "hunter2"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for line in [
        "\"--root=${API_TOKEN}\"",
        "API_KEY = \"${API_TOKEN}\"",
        "MODE = \"${REDACTED}\"",
        "sessions = \"shared\"",
        "max_noise = 7",
    ] {
        assert!(shown.contains(line), "{line} is not in:\n{shown}");
    }
    let again = toml(&shown.replace("${REDACTED}", "x")).unwrap();
    assert_eq!(again.to_toml().unwrap(), shown);

    let options = r#"["--api-key", "hunter2", "--token=hunter2", "--port", "1"]"#;
    let text = format!("[[upstreams]]\ncommand = \"npx\"\nargs = {options}\n");
    let shown = toml(&text).unwrap().to_toml().unwrap();
    assert!(
        !shown.contains("hunter2") && shown.contains("\"--port\""),
        "{shown}"
    );
}

/// C24: what clients have in their files is served as it is.
#[test]
fn c24_the_servers_of_clients_that_are_programs() {
    let text = r#"{ "mcpServers": {
        "a": { "command": "npx", "args": ["-y", "x"], "env": { "K": "v" }, "cwd": "/" },
        "b": { "type": "sse", "url": "http://127.0.0.1:3001/sse" },
        "c": { "type": "stdio", "command": "uvx", "envFile": ".env" } } }"#;
    let loaded = load_text("mcp.json", text, &Settings::default()).unwrap();
    let [a, b, c] = &loaded.config.gateway.upstreams[..] else {
        panic!("{:?}", loaded.config.gateway.upstreams);
    };
    let process = &child(a).process;
    assert_eq!(words(&process.args), ["-y", "x"]);
    assert_eq!(process.env, [("K".into(), "v".into())]);
    assert_eq!(process.cwd.as_deref(), Some(Path::new("/")));
    assert_eq!(b.http().unwrap().pin, Some(Binding::HttpSse));
    assert_eq!(child(c).process.command, "uvx");
    assert!(
        loaded.warnings[0].contains("`envFile`"),
        "{:?}",
        loaded.warnings
    );
}

/// 1.3: a pin skips the probe.
#[test]
fn the_era_of_a_server_can_be_pinned() {
    for (era, pin) in [
        ("auto", None),
        ("http+sse", Some(Binding::HttpSse)),
        ("streamable", Some(Binding::Sessions)),
        ("stateless", Some(Binding::Stateless)),
    ] {
        let loaded = toml(&format!("{ONE}era = \"{era}\"\n")).unwrap();
        assert_eq!(loaded.config.gateway.upstreams[0].http().unwrap().pin, pin);
        let shown = loaded.to_toml().unwrap();
        assert!(shown.contains(&format!("era = \"{era}\"")), "{shown}");
    }
    upstream_says(
        "era = \"sse\"",
        "upstreams[0].era: `sse` is not known here",
        "did you mean `http+sse`?",
    );
}

#[test]
fn what_belongs_to_the_other_kind_is_refused_by_name() {
    for (line, key) in [
        ("args = [\"x\"]", "args"),
        ("env = { A = \"b\" }", "env"),
        ("cwd = \"/\"", "cwd"),
        ("inherit_env = true", "inherit_env"),
        ("process = { max_noise = 1 }", "process"),
    ] {
        let message =
            format!("upstreams[0].{key}: `{key}` means something only where there is a `command`");
        upstream_says(line, &message, "remove it");
    }
    for (line, key) in [
        ("http2 = true", "http2"),
        ("headers = { A = \"b\" }", "headers"),
        ("forwarded = \"off\"", "forwarded"),
        ("max_passed_body = 2048", "max_passed_body"),
        ("timeouts = { connect = \"1s\" }", "timeouts"),
        ("pool = { max_idle = 1 }", "pool"),
        ("health = { failures = 1 }", "health"),
    ] {
        let message =
            format!("upstreams[0].{key}: `{key}` means something only where there is a `url`");
        let text = format!("[[upstreams]]\ncommand = \"npx\"\n{line}\n");
        wrong(&text, &message, "remove it");
    }
    // T2: nothing is read and ignored.
    upstream_says(
        "era = \"http+sse\"\nmax_passed_body = 2048",
        "upstreams[0].max_passed_body: `max_passed_body` means nothing to a server of `era = \"http+sse\"`",
        "remove it",
    );
    // The gateway's own log is for servers of every kind, and for these nothing else.
    for (server, what) in [
        (
            "url = \"http://h/sse\"\nera = \"http+sse\"",
            "a server of `era = \"http+sse\"`",
        ),
        ("command = \"npx\"", "a program"),
    ] {
        for value in ["off", "upstream"] {
            let text = format!("[[upstreams]]\n{server}\nresume = \"{value}\"\n");
            let message = format!(
                "upstreams[0].resume: `resume` can only be \"log\" for {what}, which resumes nothing itself"
            );
            wrong(&text, &message, "write \"log\", or remove it");
        }
        let text = format!("[[upstreams]]\n{server}\nresume = \"log\"\n");
        assert_eq!(
            only(&text).resume,
            thinpipe_gateway::Resume::Log,
            "{server}"
        );
    }
    wrong(
        &format!("{ONE}command = \"npx\"\n"),
        "upstreams[0].command: an upstream has either `url` or `command`",
        "remove one of them",
    );
}

#[test]
fn programs_and_variables_that_cannot_be() {
    let with = |line: &str| format!("[[upstreams]]\n{line}\n");
    wrong(
        &with("command = \" \""),
        "upstreams[0].command: the command is empty",
        "write the program to run: `command = \"npx\"`",
    );
    wrong(
        &with("command = \"npx\"\nenv = { \"A=B\" = \"c\" }"),
        "upstreams[0].env.A=B: `A=B` is no name of a variable",
        "write it as in `API_KEY = \"${API_KEY}\"`",
    );
    wrong(
        &with("command = \"npx\"\nargs = [\"a\", \"b\\u0000\"]"),
        "upstreams[0].args[1]: a NUL character cannot be given to a program",
        "remove it",
    );
    wrong(
        &with("command = \"npx\"\nprocess = { term_grace = \"2h\" }"),
        "upstreams[0].process.term_grace: 2h is not from 0s to 1h",
        "the default is 2s",
    );
}

fn on_disk(text: &str) -> Result<Loaded, String> {
    let folder = std::env::temp_dir();
    let file = folder.join(format!(
        "thinpipe-{}-{:?}.toml",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&file, text).unwrap();
    let loaded = load(&file, &Settings::default(), &environment);
    std::fs::remove_file(&file).unwrap();
    loaded.map_err(|error| error.to_string())
}

/// C24: programs that are not there are all named before anything is started.
#[test]
fn c24_missing_programs_are_named_with_their_lines() {
    let text = r#"
[[upstreams]]
name = "shell"
command = "sh"
[[upstreams]]
name = "words"
command = "npx -y server"
[[upstreams]]
name = "path"
command = "./no/such/server"
[[upstreams]]
name = "folder"
command = "sh"
cwd = "/no/such/folder"
[[upstreams]]
name = "own-path"
command = "sh"
env = { PATH = "/no/such/folder" }
"#;
    let error = on_disk(text).unwrap_err();
    for said in [
        "words: there is no program `npx -y server`",
        "write the arguments apart: `command = \"npx\"` and `args = [\"-y\", \"server\"]`",
        ".toml:7:11",
        "path: there is no program `./no/such/server`",
        "is the path right, and may the file be executed?",
        "folder: there is no directory `/no/such/folder`",
        "own-path: there is no program `sh`",
    ] {
        assert!(error.contains(said), "{said} is not in:\n{error}");
    }
    assert!(!error.contains("shell:"), "{error}");
    on_disk("[[upstreams]]\ncommand = \"sh\"\n").unwrap();
}

/// C24: the same on the command line.
#[test]
fn c24_a_command_line_is_an_upstream() {
    let run = |words: &[&str], env: &[&str]| {
        let owned = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        let (words, env) = (owned(words), owned(env));
        let line = CommandLine {
            words: &words,
            env: &env,
        };
        let manner = Manner {
            sessions: Some(RawSharing::Shared),
            ..Manner::default()
        };
        for_command(line, manner, &Settings::default(), &|_| None).map_err(|e| e.to_string())
    };
    let config = run(&["sh", "-c", "x ${Y}"], &["A=b=c"]).unwrap();
    let spec = &config.gateway.upstreams[0];
    let ChildUpstream { process, .. } = child(spec);
    assert_eq!(
        words(&process.args),
        ["-c", "x ${Y}"],
        "the shell has replaced what it should"
    );
    assert_eq!(process.env, [("A".into(), "b=c".into())]);
    assert_eq!(spec.bridge.sessions, Some(Sharing::Shared));
    for (program, env, said) in [
        (
            "no-such-program",
            "A=b",
            "error: COMMAND: server: there is no program `no-such-program`",
        ),
        ("sh", "A", "error: --env: a variable without a value"),
        ("sh", "=b", "error: --env: `` is no name of a variable"),
        ("", "A=b", "error: COMMAND: the command is empty"),
    ] {
        let error = run(&[program], &[env]).unwrap_err();
        assert!(error.starts_with(said), "{error}");
    }
}

#[test]
fn a_file_whose_servers_are_all_disabled_is_told_so() {
    let text = r#"{ "mcpServers": { "a": { "url": "http://h/mcp", "disabled": true } } }"#;
    let error = load_text("mcp.json", text, &Settings::default()).expect_err(text);
    let error = error.to_string();
    assert!(
        error.starts_with("error: all servers are disabled"),
        "{error}"
    );
}
