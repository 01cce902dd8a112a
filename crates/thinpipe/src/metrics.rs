//! Prometheus text. A scrape reads figures and changes none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use thinpipe_transport::server::{Nodes, Server};

use crate::backend::{Backend, UpstreamState};
use crate::figures::{self, Figure, Kind};
use crate::store::{Observations, Store};

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that can be scraped, resolved once.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// The metrics of a server and what stands behind it.
    pub(crate) fn new(server: Server, backend: Arc<dyn Backend>, store: Store) -> Self {
        let mut registry = Registry::with_prefix("thinpipe");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The running program", Info::new(version));
        registry.register_collector(Box::new(Figures {
            server,
            backend,
            store,
        }));
        Self { registry }
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// If the text cannot be written.
    pub(crate) fn scrape(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

struct Figures {
    server: Server,
    backend: Arc<dyn Backend>,
    store: Store,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut own = figures::of_server(&self.server.stats());
        own.extend(figures::of_process());
        let node = self.server.nodes().map(Nodes::stats);
        own.extend(node.iter().flat_map(figures::of_node));
        own.extend(
            self.store
                .observations()
                .iter()
                .flat_map(|seen| figures::of_store(seen)),
        );
        let own: Vec<_> = own.iter().map(|figure| (figure, None)).collect();
        write(&mut encoder, "", &own)?;

        let mut upstreams = self.backend.upstreams();
        for upstream in &mut upstreams {
            let healthy = u64::from(upstream.healthy);
            upstream
                .figures
                .push(Figure::gauge("up", "Whether the upstream answers", healthy));
        }
        let of_upstreams: Vec<_> = upstreams.iter().flat_map(labelled).collect();
        write(&mut encoder, "upstream_", &of_upstreams)?;
        write_methods(&mut encoder, &upstreams)?;
        match self.store.observations() {
            Some(seen) => write_operations(&mut encoder, seen),
            None => Ok(()),
        }
    }
}

/// Upper bounds of the histograms' buckets: powers of four, which is where theirs end, too.
pub(crate) const BOUNDS: [Duration; 11] = {
    let mut bounds = [Duration::ZERO; 11];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = Duration::from_micros(64 << (2 * at));
        at += 1;
    }
    bounds
};

fn write_methods(
    encoder: &mut DescriptorEncoder<'_>,
    upstreams: &[UpstreamState],
) -> Result<(), fmt::Error> {
    if upstreams.iter().all(|upstream| upstream.methods.is_empty()) {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(
        "upstream_answer_seconds",
        "From a request to the beginning of its answer",
        None,
        MetricType::Histogram,
    )?;
    for upstream in upstreams {
        for stats in &upstream.methods {
            let labels = [
                ("upstream", upstream.name.as_str()),
                ("method", stats.method),
            ];
            let mut below = 0;
            let each = BOUNDS.map(|bound| {
                let before = std::mem::replace(&mut below, stats.below(bound));
                (bound.as_secs_f64(), below - before)
            });
            let rest = (f64::INFINITY, stats.count() - below);
            let buckets: Vec<_> = each.into_iter().chain([rest]).collect();
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(
                    stats.total().as_secs_f64(),
                    stats.count(),
                    &buckets,
                    None,
                )?;
        }
    }
    Ok(())
}

fn write_operations(
    encoder: &mut DescriptorEncoder<'_>,
    seen: &Observations,
) -> Result<(), fmt::Error> {
    let operations = seen.operations();
    if operations.is_empty() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(
        "store_operation_seconds",
        "From an operation of the store to its answer or failure",
        None,
        MetricType::Histogram,
    )?;
    let bounds = BOUNDS.map(|bound| bound.as_secs_f64());
    for stats in operations {
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(stats.counts).collect();
        metric
            .encode_family(&[("operation", stats.operation)])?
            .encode_histogram::<NoLabelSet>(
                stats.total.as_secs_f64(),
                stats.count(),
                &buckets,
                None,
            )?;
    }
    Ok(())
}

fn labelled(upstream: &UpstreamState) -> impl Iterator<Item = (&Figure, Option<&str>)> {
    let name = Some(upstream.name.as_str());
    upstream.figures.iter().map(move |figure| (figure, name))
}

/// Writes figures, those of one name together, as the format wants it.
fn write(
    encoder: &mut DescriptorEncoder<'_>,
    prefix: &str,
    figures: &[(&Figure, Option<&str>)],
) -> Result<(), fmt::Error> {
    let mut names: Vec<&str> = Vec::new();
    for (figure, _) in figures {
        if !names.contains(&figure.name) {
            names.push(figure.name);
        }
    }
    for name in names {
        let mut same = figures
            .iter()
            .filter(|(figure, _)| figure.name == name)
            .peekable();
        let Some((first, _)) = same.peek() else {
            continue;
        };
        let kind = match first.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let full = format!("{prefix}{name}");
        let mut metric = encoder.encode_descriptor(&full, first.help, None, kind)?;
        for (figure, upstream) in same {
            let labels: Vec<(&str, &str)> = upstream
                .map(|name| ("upstream", name))
                .into_iter()
                .chain(figure.label.as_ref().map(|(name, value)| (*name, &**value)))
                .collect();
            let value = match labels.is_empty() {
                true => metric.encode_family(&NO_LABELS)?,
                false => metric.encode_family(&labels)?,
            };
            match figure.kind {
                Kind::Counter => ConstCounter::new(figure.value).encode(value)?,
                Kind::Gauge => {
                    let value_now = i64::try_from(figure.value).unwrap_or(i64::MAX);
                    ConstGauge::new(value_now).encode(value)?;
                }
            }
        }
    }
    Ok(())
}

const NO_LABELS: [(&str, &str); 0] = [];
