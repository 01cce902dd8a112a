//! All measurements, interleaved: in every round each set asks each of its targets once, and every
//! round begins with another target.

mod config;
pub(crate) mod measure;
pub(crate) mod nodes;
mod server;
pub(crate) mod set;
pub(crate) mod target;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::baseline;
use crate::load::caller::Transport;
use crate::load::held::Held;
use crate::machine;
use crate::report::{self, http_sse};
use crate::summary::Summary;
use crate::upstream::Listening;
use measure::{Measured, Metrics, Plan};
use set::{Choices, Page, Set, Work};
use target::{BESIDE, Process, Target, Tools};

/// Measures Thinpipe against what stands beside it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The thinpipe binary; without it, its targets must be left out.
    #[arg(long)]
    thinpipe: Option<PathBuf>,
    /// The nginx binary.
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// The redis-server binary.
    #[arg(long, default_value = "redis-server")]
    redis: PathBuf,
    /// Where figures.jsonl, figures.md and logs go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Names of sets, with commas; all of them unless given. `gateway`, `servers`, `bridges` and `nodes` stand for those of a page.
    #[arg(long, value_delimiter = ',')]
    sets: Vec<String>,
    /// Names of targets, with commas; all of them unless given.
    #[arg(long, value_delimiter = ',')]
    targets: Vec<Target>,
    /// How often everything is measured.
    #[arg(long)]
    rounds: Option<usize>,
    #[command(flatten)]
    choices: Choices,
    /// Fewer and shorter runs, whose figures are rough.
    #[arg(long)]
    quick: bool,
    /// A recorded `figures*.jsonl`: fail if this run is worse, by more than 5 % in the 95th percentile or in the rate
    /// or 10 % in memory, and by more than the rounds differ. Give the sets that are in it.
    #[arg(long)]
    against: Option<PathBuf>,
    /// The command to print beside the figures.
    #[arg(long, default_value = "thinpipe-bench run")]
    command: String,
}

impl Options {
    pub(crate) async fn run(self) -> Result<()> {
        let descriptors = machine::raise_descriptor_limit()?;
        fs::create_dir_all(&self.out)?;
        let scratch = fs::canonicalize(&self.out)?.join("scratch");
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch)?;
        let tools = Tools {
            bench: std::env::current_exe()?,
            thinpipe: self.thinpipe.clone(),
            nginx: self.nginx.clone(),
            redis: self.redis.clone(),
            scratch,
        };
        let sets = self.sets()?;
        let against = self.against.as_ref();
        let recorded = against
            .map(|file| baseline::read(file, &sets))
            .transpose()?;
        let machine = format!("{}, {descriptors} descriptors", machine::describe());
        let mut lines = BTreeMap::new();
        for page in Page::ALL {
            for ending in ["md", "jsonl"] {
                let _ = fs::remove_file(self.file(page, ending));
            }
            if sets.iter().any(|set| set.page == page) {
                lines.insert(page, File::create(self.file(page, "jsonl"))?);
            }
        }
        let mut session = Session {
            plan: self.plan(),
            lines,
            summary: Summary::default(),
            bed: Bed {
                tools,
                upstream: None,
                store: None,
                proxies: BTreeMap::new(),
            },
        };
        for page in session.pages() {
            session.write(
                page,
                &json!({ "command": self.command, "machine": machine }),
            )?;
        }
        let rounds = self.rounds.unwrap_or(if self.quick { 2 } else { 5 });
        for round in 0..rounds {
            for set in sets.iter().filter(|set| round < set.rounds) {
                session.set(set, &self.targets, round).await?;
            }
        }
        for page in session.pages() {
            let sets: Vec<_> = sets.iter().filter(|set| set.page == page).collect();
            let text = report::markdown(&session.summary, page, &sets, &self.command, &machine);
            fs::write(self.file(page, "md"), &text)?;
            println!("{text}");
        }
        let comparison = self.out.join("figures-http-sse.md");
        let _ = fs::remove_file(&comparison);
        if let Some(text) = http_sse::markdown(&session.summary, &self.command, &machine) {
            fs::write(comparison, text)?;
        }
        ensure!(!session.summary.is_empty(), "no run was good");
        recorded.map_or(Ok(()), |recorded| {
            baseline::compare(&session.summary, &recorded, &sets)
        })
    }

    fn file(&self, page: Page, ending: &str) -> PathBuf {
        let stem = match page {
            Page::Gateway => "figures",
            Page::Servers => "figures-library",
            Page::Bridges => "figures-bridges",
            Page::Nodes => "figures-nodes",
        };
        self.out.join(format!("{stem}.{ending}"))
    }

    fn sets(&self) -> Result<Vec<Set>> {
        let mut sets = set::all(self.choices);
        for name in &self.sets {
            if !sets.iter().any(|set| is_named(set, name)) {
                let known: Vec<_> = sets.iter().map(|set| set.name).collect();
                bail!("no set {name}: {}", known.join(", "));
            }
        }
        sets.retain(|set| self.sets.is_empty() || self.sets.iter().any(|name| is_named(set, name)));
        Ok(sets)
    }

    fn plan(&self) -> Plan {
        let (warm, least, most) = if self.quick {
            (300, 1000, 2000)
        } else {
            (700, 3000, 20_000)
        };
        Plan {
            warm: Duration::from_millis(warm),
            least: Duration::from_millis(least),
            most: Duration::from_millis(most),
        }
    }
}

/// What goes on from one run to the next.
struct Session {
    plan: Plan,
    lines: BTreeMap<Page, File>,
    summary: Summary,
    bed: Bed,
}

impl Session {
    async fn set(&mut self, set: &Set, wanted: &[Target], round: usize) -> Result<()> {
        let mut targets: Vec<Target> = set.targets.to_vec();
        let chosen = |target: &Target| wanted.iter().any(|w| w.name() == target.name());
        targets.retain(|target| wanted.is_empty() || chosen(target));
        if !targets.is_empty() {
            let first = round % targets.len();
            targets.rotate_left(first);
        }
        for target in targets {
            for attempt in 1..=ATTEMPTS {
                let result = self.bed.measure(set, target, self.plan).await;
                if self.keep(set, target, round, attempt, result)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Writes a run down; false if it was bad.
    fn keep(
        &mut self,
        set: &Set,
        target: Target,
        round: usize,
        attempt: u32,
        result: Result<Metrics>,
    ) -> Result<bool> {
        let (round, name) = (round + 1, set.name);
        let mut line = json!({ "set": name, "target": target.to_string(), "round": round });
        let good = result.is_ok();
        match result {
            Ok(metrics) => {
                eprintln!("{round} {name:9} {target:9} {}", report::line(&metrics));
                line["metrics"] = json!(metrics);
                self.summary.add(name, target, round, metrics);
            }
            Err(error) => {
                eprintln!("{round} {name:9} {target:9} discarded ({attempt}): {error:#}");
                line["discarded"] = json!(format!("{error:#}"));
                self.summary.discard(name, target);
                // Its connections and sessions may still be in any state.
                self.bed.proxies.remove(&target.host());
            }
        }
        self.write(set.page, &line)?;
        Ok(good)
    }

    fn pages(&self) -> Vec<Page> {
        self.lines.keys().copied().collect()
    }

    fn write(&mut self, page: Page, line: &serde_json::Value) -> Result<()> {
        let file = self.lines.get_mut(&page).context("no such page")?;
        Ok(writeln!(file, "{line}")?)
    }
}

/// The processes that stay for all runs under load. Runs about memory and about starting use
/// fresh ones.
struct Bed {
    tools: Tools,
    upstream: Option<Process>,
    store: Option<Process>,
    proxies: BTreeMap<Target, Process>,
}

impl Bed {
    async fn measure(&mut self, set: &Set, target: Target, plan: Plan) -> Result<Metrics> {
        let load = match set.work {
            Work::Load(load) => load,
            Work::Idle { streams } => return measure::idle(&self.tools, target, streams).await,
            Work::Stalled { streams } => {
                return measure::stalled(&self.tools, target, streams).await;
            }
            Work::Parked { calls } => return measure::parked(&self.tools, target, calls).await,
            Work::Start => return measure::start(&self.tools, target).await,
            Work::Connections { clients } => {
                return server::connections(&self.tools, target, clients).await;
            }
            Work::Cycles { clients } => return server::cycles(&self.tools, target, clients).await,
            Work::Nodes(work) => return work.measure(&self.tools, target).await,
        };
        self.prepare(target).await?;
        let proxy = self.proxies.get(&target.host());
        let upstream = self.upstream.as_ref().filter(|_| target.is_proxy());
        let store = self.store.as_ref().filter(|_| target.has_store());
        let address = proxy.or(upstream).map(|process| process.address);
        let measured = Measured {
            address: address.context("its process was just started")?,
            transport: server::transport(target),
            proxy: proxy.map(Process::pid),
            upstream,
            store: store.map(Process::pid),
        };
        let mut idle = None;
        if target == Target::Beside {
            idle = Some(Held::open(measured.address, Transport::HttpSse, BESIDE).await?);
        }
        let result = measured.load(load, plan).await;
        idle.as_mut().map_or(Ok(()), Held::check)?;
        // That a peer died says more than what was noticed of it.
        if target.is_proxy() {
            self.upstream.as_mut().map_or(Ok(()), Process::alive)?;
        }
        self.proxies
            .get_mut(&target.host())
            .map_or(Ok(()), Process::alive)?;
        if target == Target::Stdio {
            // The servers of clients that have gone may stay for as long as their sessions.
            self.proxies.remove(&target);
        }
        result
    }

    async fn prepare(&mut self, target: Target) -> Result<()> {
        let alive = |process: Option<&mut Process>| process.is_some_and(|p| p.alive().is_ok());
        if target.is_proxy() && !alive(self.upstream.as_mut()) {
            self.proxies.clear();
            self.upstream = Some(self.tools.upstream(Listening::Idle)?);
        }
        if target.has_store() && !alive(self.store.as_mut()) {
            self.store = Some(self.tools.store()?);
        }
        let host = target.host();
        if host != Target::Direct && !alive(self.proxies.get_mut(&host)) {
            let store = self.store.as_ref().filter(|_| host.has_store());
            let upstream = self.upstream.as_ref();
            let mut proxy = self.tools.start_with(host, upstream, store)?;
            proxy.accepts()?;
            if host.has_store() {
                nodes::answers(&mut proxy).await?;
            }
            self.proxies.insert(host, proxy);
        }
        Ok(())
    }
}

fn is_named(set: &Set, name: &str) -> bool {
    let page = match set.page {
        Page::Gateway => "gateway",
        Page::Servers => "servers",
        Page::Bridges => "bridges",
        Page::Nodes => "nodes",
    };
    set.name == name || name == page || (name == "idle" && set.name.starts_with("idle"))
}

const ATTEMPTS: u32 = 2;
