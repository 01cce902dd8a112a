//! No child outlives the gateway, even if that is killed.
//!
//! A process that is killed cannot clean up, and what the kernel could do for it (`PR_SET_PDEATHSIG`)
//! has to be asked for in the child, which is unsafe code here, and is not portable. So one shell for the
//! whole program reads from a pipe which groups are alive. Only this process has the other end, so that
//! the shell reads the end of the pipe when this process is gone, however it went, and kills what is left.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroI32;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, kill_process_group};

pub(super) use rustix::process::Signal;

/// Reads `+ GROUP` and `- GROUP`; kills what is left at the end.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
groups=' '
while read -r sign group; do
    case $sign in
    +) groups="$groups$group " ;;
    -) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

/// A guard that ends sooner than this is replaced that much later: whatever ended it may end the next.
const LIVES: Duration = Duration::from_secs(1);

static GUARD: Mutex<Guard> = Mutex::new(Guard {
    shell: None,
    number: 0,
    groups: BTreeSet::new(),
});

struct Guard {
    /// The input of the shell, which ends by itself when this process does. `None`: it does not run.
    shell: Option<ChildStdin>,
    /// How many there were.
    number: u64,
    /// What is alive, for a shell that has to take over from one that died.
    groups: BTreeSet<NonZeroI32>,
}

/// Starts the guard, if it does not run.
///
/// # Errors
/// Why it does not: then no child may be started.
pub(super) fn start() -> io::Result<()> {
    let mut guard = lock();
    match guard.shell {
        Some(_) => Ok(()),
        None => guard.restart(),
    }
}

/// Waits for the end of a shell, and has another take over. What was written to it last may have been lost with
/// it, and nothing else would tell.
fn watch(mut shell: Child, number: u64) {
    let since = Instant::now();
    if let Err(error) = shell.wait() {
        tracing::warn!(%error, "the guard process cannot be waited for");
        return;
    }
    let is_last = |guard: &Guard| guard.number == number;
    {
        let mut guard = lock();
        if !is_last(&guard) {
            return;
        }
        guard.shell = None;
    }
    if since.elapsed() < LIVES {
        thread::sleep(LIVES);
    }
    let mut guard = lock();
    if !is_last(&guard) || guard.groups.is_empty() {
        return;
    }
    if let Err(error) = guard.restart() {
        tracing::warn!(%error, "the guard process ended, and another cannot be started");
    }
}

fn lock() -> MutexGuard<'static, Guard> {
    // A panic under this lock leaves it with a list that is as right as before.
    GUARD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    fn restart(&mut self) -> io::Result<()> {
        self.shell = None;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let stdin = shell.stdin.take();
        let stdin = stdin.ok_or_else(|| io::Error::other("its input is not piped"))?;
        // A guard that was stopped must not stop us.
        fcntl_setfl(&stdin, OFlags::NONBLOCK)?;
        self.number += 1;
        let number = self.number;
        thread::Builder::new()
            .name("guard".into())
            .spawn(move || watch(shell, number))?;
        self.shell = Some(stdin);
        let groups = self.groups.clone();
        groups
            .into_iter()
            .try_for_each(|group| self.tell('+', group))
    }

    /// A line is shorter than what a pipe takes at once, so it is written whole or not at all.
    fn tell(&mut self, sign: char, group: NonZeroI32) -> io::Result<()> {
        let Some(stdin) = &mut self.shell else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let line = format!("{sign} {group}\n");
        stdin.write_all(line.as_bytes())
    }

    fn add(&mut self, group: NonZeroI32) -> io::Result<()> {
        self.groups.insert(group);
        if self.tell('+', group).is_ok() {
            return Ok(());
        }
        // It died since it was looked at. One attempt is worth it, and tells the new one all groups.
        self.restart()
    }

    fn remove(&mut self, group: NonZeroI32) {
        self.groups.remove(&group);
        if let Err(error) = self.tell('-', group) {
            tracing::debug!(%error, "the guard process was not told that a child ended");
        }
    }
}

/// The process group of a child. Dropping it kills what is left of it.
#[derive(Debug)]
pub(super) struct Group {
    id: Pid,
    /// Once it has been killed and its leader waited for, its id may become another's.
    is_over: bool,
}

impl Group {
    /// The group that this child, just started, leads.
    ///
    /// # Errors
    /// If the guard does not take it; then the group has been killed.
    pub(super) fn of(child: &tokio::process::Child) -> io::Result<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw);
        let group = Self {
            id: id.ok_or_else(|| io::Error::other("the child has no id"))?,
            is_over: false,
        };
        let added = lock().add(group.id.as_raw_nonzero());
        added.map(|()| group)
    }

    /// Sends a signal to all of it.
    pub(super) fn signal(&self, signal: Signal) {
        // What else there is to fail is that nobody is left in it.
        if let Err(error) = kill_process_group(self.id, signal) {
            tracing::trace!(group = %self, %error, "no signal was sent");
        }
    }

    /// Kills what is left of it, for good.
    pub(super) fn end(&mut self) {
        if !self.is_over {
            self.is_over = true;
            self.signal(Signal::KILL);
            lock().remove(self.id.as_raw_nonzero());
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id.as_raw_nonzero(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn sleeper() -> Child {
        let mut command = Command::new("sleep");
        command.arg("1000").process_group(0).spawn().unwrap()
    }

    /// What was taken off the list is not touched: its id may be another's by then.
    #[test]
    fn the_guard_kills_what_is_on_its_list_and_nothing_else() {
        let mut sleepers = [sleeper(), sleeper(), sleeper(), sleeper()];
        let [a, b, c, d] = sleepers.each_ref().map(Child::id);
        let mut shell = Command::new("/bin/sh");
        let shell = shell.args(["-c", SCRIPT]).stdin(Stdio::piped()).spawn();
        let mut shell = shell.unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        write!(stdin, "+ {a}\n+ {b}\n+ {c}\n+ {d}\n- {b}\n- {d}\n").unwrap();
        drop(stdin);
        assert!(shell.wait().unwrap().success());
        for listed in [0, 2] {
            assert_eq!(sleepers[listed].wait().unwrap().signal(), Some(9));
        }
        for spared in [1, 3] {
            assert_eq!(sleepers[spared].try_wait().unwrap(), None);
            sleepers[spared].kill().unwrap();
            sleepers[spared].wait().unwrap();
        }
    }
}
