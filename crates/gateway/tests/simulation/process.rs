//! A simulated server as a process: it accepts connections, its tasks end with it.

use std::sync::Mutex;

use thinpipe_testkit::network::{Host, Http, Network, Socket};
use tokio::task::JoinSet;

/// One life of a process.
pub(crate) struct Process {
    host: Host,
    tasks: Mutex<JoinSet<()>>,
}

impl Process {
    /// Starts it as this node of the network.
    pub(crate) fn start(network: &Network, name: &str) -> Self {
        Self {
            host: network.start(name),
            tasks: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.host.name()
    }

    /// Serves each connection in a task of its own.
    pub(crate) async fn accept<S>(&self, serve: impl Fn(Http<Socket>) -> S)
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = self.host.listen();
        while let Some((socket, _)) = listener.accept().await {
            self.spawn(serve(Http::new(socket)));
        }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap();
        tasks.spawn(task);
        while tasks.try_join_next().is_some() {}
    }

    /// Ends it in the middle of everything.
    pub(crate) fn kill(&self) {
        self.host.network().kill(self.host.name());
        // Taken out first: what is dropped may look at the process again.
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        drop(tasks);
    }
}
