//! Programs under test, and a client that is nothing but a socket.

#![expect(
    clippy::unwrap_used,
    reason = "this is a test, but in no function marked as one"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Whatever a test waits for comes much sooner; a test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a finished program left.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thinpipe"));
    // Settings of whoever runs the tests are not the tests' own.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("THINPIPE_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Done {
    let output = command(arguments, variables)
        .output()
        .expect("the program starts");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A file that goes with its test.
pub(crate) struct Temporary {
    directory: std::path::PathBuf,
    path: String,
}

/// Writes a file of this name into a directory of its own.
pub(crate) fn temporary(name: &str, text: &str) -> Temporary {
    let unique = format!(
        "thinpipe-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let unique: String = unique
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '-')
        .collect();
    let directory = std::env::temp_dir().join(format!("{unique}-{name}"));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join(name);
    std::fs::write(&path, text).expect("a file");
    Temporary {
        path: path.to_str().expect("UTF-8").to_owned(),
        directory,
    }
}

impl Temporary {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A running program whose output is kept as it comes. It is killed with its test.
pub(crate) struct Program {
    child: Child,
    said: Arc<(Mutex<(String, bool)>, Condvar)>,
}

impl Program {
    fn start(arguments: &[&str], variables: &[(&str, &str)], stdout: bool) -> Self {
        let mut command = command(arguments, variables);
        if stdout {
            command.stdout(Stdio::piped()).stderr(Stdio::null());
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().expect("the program starts");
        let said = Arc::new((Mutex::new((String::new(), false)), Condvar::new()));
        let output: Box<dyn Read + Send> = match stdout {
            true => Box::new(child.stdout.take().expect("piped")),
            false => Box::new(child.stderr.take().expect("piped")),
        };
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut said = kept.0.lock().unwrap();
                said.0.push_str(&line);
                said.0.push('\n');
                kept.1.notify_all();
            }
            kept.0.lock().unwrap().1 = true;
            kept.1.notify_all();
        });
        Self { child, said }
    }

    /// Everything it has said, as soon as a line with `what` is among it.
    pub(crate) fn said_until(&self, what: &str) -> String {
        let said = self.said.0.lock().unwrap();
        let waits = |said: &mut (String, bool)| !said.0.contains(what) && !said.1;
        let (said, _) = self
            .said
            .1
            .wait_timeout_while(said, PATIENCE, waits)
            .unwrap();
        assert!(said.0.contains(what), "{what:?} was not said: {}", said.0);
        said.0.clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether a process of this id is there.
    pub(crate) fn exists(id: u32) -> bool {
        std::path::Path::new(&format!("/proc/{id}")).exists()
    }

    /// Names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("Linux");
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        tasks
            .flatten()
            .filter_map(name)
            .map(|name| name.trim().to_owned())
            .collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .expect("kill");
        assert!(sent.success());
    }

    /// Sends signals until it ends: those that come with the first one do not count.
    pub(crate) fn signal_until_it_ends(&self, name: &str) {
        while !self.said.0.lock().unwrap().1 {
            self.signal(name);
        }
    }

    /// Waits for its end; gives its exit code and everything it said.
    pub(crate) fn wait(&mut self) -> (Option<i32>, String) {
        let said = self.said.0.lock().unwrap();
        let (said, _) = self
            .said
            .1
            .wait_timeout_while(said, PATIENCE, |said| !said.1)
            .unwrap();
        assert!(said.1, "it did not end: {}", said.0);
        let text = said.0.clone();
        drop(said);
        let status = self.child.wait().expect("its status");
        (status.code(), text)
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(&mut self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sample server of the demonstration.
pub(crate) struct Sample {
    pub(crate) url: String,
    _program: Program,
}

impl Sample {
    pub(crate) fn start() -> Self {
        let program = Program::start(&["demo", "--keep"], &[], true);
        let said = program.said_until("stays on");
        let url = word_after(&said, "listens on ")
            .trim_end_matches(',')
            .to_owned();
        Self {
            url,
            _program: program,
        }
    }
}

/// A gateway that listens.
pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) program: Program,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

/// An answer that is still coming.
pub(crate) struct Open {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Gateway {
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let program = Program::start(arguments, variables, false);
        let said = program.said_until("listening on ");
        let url = word_after(&said, "listening on ").to_owned();
        Self { url, program }
    }

    /// In front of the sample server, on a port of its own.
    pub(crate) fn to(sample: &Sample, more: &[&str]) -> Self {
        let mut arguments = vec!["--listen", "127.0.0.1:0"];
        if !more.contains(&"--admin") {
            arguments.extend(["--admin", "off"]);
        }
        arguments.extend(more);
        arguments.push(&sample.url);
        Self::start(&arguments, &[])
    }

    pub(crate) fn post(&self, message: &str) -> Answer {
        self.post_with(message, &[])
    }

    pub(crate) fn post_with(&self, message: &str, headers: &[&str]) -> Answer {
        let (authority, path) = split(&self.url);
        Open::send(authority, &post(authority, path, message, headers)).answer()
    }

    /// Sends a request and reads nothing yet.
    pub(crate) fn open(&self, message: &str) -> Open {
        let (authority, path) = split(&self.url);
        Open::send(authority, &post(authority, path, message, &[]))
    }

    pub(crate) fn admin(&self, path: &str) -> Answer {
        self.admin_request("GET", path, "127.0.0.1")
    }

    pub(crate) fn admin_request(&self, method: &str, path: &str, host: &str) -> Answer {
        let authority = self.admin_authority();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        Open::send(&authority, &request).answer()
    }

    /// Host and port of the admin address.
    pub(crate) fn admin_authority(&self) -> String {
        let said = self.program.said_until("admin on ");
        let url = word_after(&said, "admin on ").to_owned();
        split(&url).0.to_owned()
    }

    /// Asks until the answer is as wanted.
    pub(crate) fn admin_until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.admin(path);
            if wanted(&answer) {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "{path}: {} {}",
                answer.status,
                answer.body
            );
            std::thread::yield_now();
        }
    }
}

impl Answer {
    /// The value of a header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    }
}

impl Open {
    fn send(authority: &str, request: &str) -> Self {
        let mut stream = TcpStream::connect(authority).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).expect("it reads");
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Reads until `what` has come.
    pub(crate) fn read_until(&mut self, what: &str) {
        while !self.text().contains(what) {
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).expect("it answers in time");
            assert!(
                count > 0,
                "the answer ended before {what:?}: {}",
                self.text()
            );
            self.read.extend_from_slice(&chunk[..count]);
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) fn read_to_end(&mut self) -> String {
        // A reset at the very end is an end too: what came before it counts.
        let _ = self.stream.read_to_end(&mut self.read);
        self.text()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    fn answer(mut self) -> Answer {
        let text = self.read_to_end();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Answer {
            status: status.expect("a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}

/// A POST; 2026-07-28 unless it is `initialize`.
fn post(authority: &str, path: &str, message: &str, headers: &[&str]) -> String {
    let mut more = String::new();
    if !message.contains("\"initialize\"") {
        let parsed: serde_json::Value = serde_json::from_str(message).expect("JSON");
        let method = parsed["method"].as_str().unwrap_or_default();
        more += &format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n");
        if method == "tools/call" {
            more += "mcp-name: count\r\n";
        }
    }
    for header in headers {
        more += &format!("{header}\r\n");
    }
    format!(
        "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{message}",
        message.len()
    )
}

/// Authority and path of a URL.
fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").expect("a URL");
    rest.find('/').map_or((rest, "/"), |at| rest.split_at(at))
}

fn word_after<'a>(text: &'a str, prefix: &str) -> &'a str {
    let rest = text.split_once(prefix).expect("said").1;
    rest.split([' ', '\n', '"']).next().expect("a word")
}
