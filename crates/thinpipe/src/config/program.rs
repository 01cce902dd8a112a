//! Servers on stdio: the program, its arguments and its environment.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use thinpipe_gateway::{ChildUpstream, Reached, UpstreamSpec};
use thinpipe_transport::upstream::stdio::StdioConfig;

use super::build::Build;
use super::problem::{Place, Problem};
use super::raw::RawUpstream;
use super::tree::Path;

/// Bytes that no argument and no variable can hold.
const NUL: char = '\0';

impl Build {
    /// A server that is started by `command`.
    pub(super) fn program(
        &mut self,
        name: &str,
        command: &str,
        raw: &RawUpstream,
        path: &Path,
        max_message: usize,
    ) -> ChildUpstream {
        let mut process = StdioConfig::new(name.into(), command);
        self.no_nul(command, self.place(path, "command"));
        if command.trim().is_empty() {
            let problem = Problem::new(self.place(path, "command"), "the command is empty");
            self.add(problem.mend("write the program to run: `command = \"npx\"`"));
        }
        for (index, argument) in raw.args.iter().flatten().enumerate() {
            let place = match self.direct {
                true => self.place(path, "args"),
                false => Place::Path(path.key("args").index(index)),
            };
            self.no_nul(argument, place);
            process.args.push(argument.into());
        }
        process.env = self.variables(&raw.env, path);
        process.inherit_env = raw.inherit_env.unwrap_or(process.inherit_env);
        process.cwd = raw.cwd.as_ref().map(PathBuf::from);
        process.max_message = max_message;
        let mut child = ChildUpstream::new(process);
        child.pin = self.era_of_program(raw, path);
        raw.process.apply(self, &path.key("process"), &mut child);
        child
    }

    fn variables(
        &mut self,
        given: &BTreeMap<String, String>,
        path: &Path,
    ) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        let table = path.key("env");
        let mut variables = Vec::with_capacity(given.len());
        for (name, value) in given {
            let place = match self.direct {
                true => self.place(path, "env"),
                false => Place::Path(table.key(name)),
            };
            if name.is_empty() || name.contains(['=', NUL]) {
                let message = format!("`{name}` is no name of a variable");
                let problem = Problem::new(place.clone(), message);
                self.add(problem.mend("write it as in `API_KEY = \"${API_KEY}\"`"));
            }
            if value.contains(NUL) {
                // The value may be a secret: it is not quoted.
                let problem = Problem::new(place, "the value holds a NUL character");
                self.add(problem.mend("remove it"));
            }
            variables.push((name.into(), value.into()));
        }
        variables
    }

    fn no_nul(&mut self, text: &str, place: Place) {
        if text.contains(NUL) {
            let problem = Problem::new(place, "a NUL character cannot be given to a program");
            self.add(problem.mend("remove it"));
        }
    }
}

/// What is wrong with programs and directories that are not there. It is asked when a configuration is
/// loaded, not when it is read, since the answer depends on the machine.
pub(super) fn missing(
    specs: &[UpstreamSpec],
    place: impl Fn(&UpstreamSpec, &'static str) -> Place,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for spec in specs {
        let Reached::Stdio(child) = &spec.reached else {
            continue;
        };
        let process = &child.process;
        if let Some(cwd) = process.cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
            let message = format!("{}: there is no directory `{}`", spec.name(), cwd.display());
            let problem = Problem::new(place(spec, "cwd"), message);
            problems.push(problem.mend("make it, or name another"));
            continue;
        }
        if !is_there(process) {
            let command = process.command.to_string_lossy();
            let message = format!("{}: there is no program `{command}`", spec.name());
            problems.push(Problem::new(place(spec, "command"), message).mend(mend(&command)));
        }
    }
    problems
}

fn mend(command: &str) -> String {
    let mut words = command.split_whitespace();
    match (words.next(), words.next()) {
        (Some(program), Some(_)) => {
            let args: Vec<_> = command.split_whitespace().skip(1).collect();
            format!("write the arguments apart: `command = \"{program}\"` and `args = {args:?}`")
        }
        _ if command.contains('/') => "is the path right, and may the file be executed?".to_owned(),
        _ => "install it, or write its whole path; it is looked for in `PATH`".to_owned(),
    }
}

/// As the system will look for it: a name in the child's `PATH`, a path from where the child starts.
fn is_there(process: &StdioConfig) -> bool {
    let command = FilePath::new(&process.command);
    let start = process.cwd.clone().unwrap_or_default();
    if command.components().count() > 1 || command.is_absolute() {
        return is_program(&start.join(command));
    }
    let own = process.env.iter().find(|(name, _)| name == "PATH");
    let search = own.map(|(_, value)| value.clone());
    let search = search
        .or_else(|| std::env::var_os("PATH"))
        .unwrap_or_default();
    std::env::split_paths(&search).any(|folder| is_program(&start.join(folder).join(command)))
}

#[cfg(unix)]
fn is_program(path: &FilePath) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &FilePath) -> bool {
    path.is_file()
}
