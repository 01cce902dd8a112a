//! Settings from the command line and the environment, which go before those of a file (I5).

use std::fmt::Display;

use clap::Args;

use super::problem::Place;
use super::tree::Path;

/// Options that every way of running the gateway takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// Address that clients connect to; port 0: any free one [default: 127.0.0.1:8080] [env: THINPIPE_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Address of /health, /ready, /metrics and /status, or "off" [default: 127.0.0.1:8081] [env: THINPIPE_ADMIN]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<String>,
    /// Host name that clients may reach the gateway by, beside loopback ones; may be repeated.
    /// Needed to listen on other than loopback addresses; "*" allows all [env: THINPIPE_ALLOW_HOST, comma separated]
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_host: Vec<String>,
    /// Web origin that may use the gateway from a browser; may be repeated [env: THINPIPE_ALLOW_ORIGIN, comma separated]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
    /// Where sessions are kept: "memory", or Redis for several gateways, "redis://HOST:PORT" [default: memory] [env: THINPIPE_STORE]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// Threads that serve connections [default: one for each CPU] [env: THINPIPE_WORKERS]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<String>,
    /// "text" or "json" [default: text] [env: THINPIPE_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// error, warn, info, debug, trace or off, also by module: "info,thinpipe_gateway=debug" [default: info] [env: THINPIPE_LOG]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// Where settings come from, the stronger first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    /// The command line.
    pub(crate) flags: Settings,
    /// The environment.
    pub(crate) environment: Settings,
}

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

impl Settings {
    /// The settings of an environment; empty variables count as not set.
    pub(crate) fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let one = |name| variable(name).filter(|value| !value.is_empty());
        let many = |name| {
            let value = one(name).unwrap_or_default();
            let items = value.split(',').map(str::trim);
            items
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Self {
            listen: one("THINPIPE_LISTEN"),
            admin: one("THINPIPE_ADMIN"),
            allow_host: many("THINPIPE_ALLOW_HOST"),
            allow_origin: many("THINPIPE_ALLOW_ORIGIN"),
            store: one("THINPIPE_STORE"),
            workers: one("THINPIPE_WORKERS"),
            log_format: one("THINPIPE_LOG_FORMAT"),
            log_level: one("THINPIPE_LOG"),
        }
    }
}

/// A setting's names: option, variable, key of the file.
pub(crate) struct Names {
    pub(crate) flag: &'static str,
    pub(crate) variable: &'static str,
    pub(crate) key: &'static [&'static str],
}

impl Names {
    fn path(&self) -> Path {
        self.key
            .iter()
            .fold(Path::default(), |path, key| path.key(*key))
    }
}

impl Layers {
    /// The strongest of the values given for a setting of one value.
    pub(crate) fn one(
        &self,
        names: &Names,
        pick: impl Fn(&Settings) -> Option<&String>,
        file: Option<impl Display>,
    ) -> Option<Given<String>> {
        let given = |value: &String, name: &str| Given {
            value: value.clone(),
            place: Place::Setting(name.to_owned()),
        };
        let flag = pick(&self.flags).map(|value| given(value, names.flag));
        flag.or_else(|| pick(&self.environment).map(|value| given(value, names.variable)))
            .or_else(|| {
                file.map(|value| Given {
                    value: value.to_string(),
                    place: Place::Path(names.path()),
                })
            })
    }

    /// The strongest of the lists given for a setting of many values: they replace each other whole.
    pub(crate) fn many(
        &self,
        names: &Names,
        pick: impl Fn(&Settings) -> &Vec<String>,
        file: Option<Vec<String>>,
    ) -> Vec<Given<String>> {
        for (settings, name) in [
            (&self.flags, names.flag),
            (&self.environment, names.variable),
        ] {
            let values = pick(settings);
            if !values.is_empty() {
                let place = Place::Setting(name.to_owned());
                return with_place(values.clone(), |_| place.clone());
            }
        }
        let path = names.path();
        with_place(file.unwrap_or_default(), |index| {
            Place::Path(path.index(index))
        })
    }
}

fn with_place(values: Vec<String>, place: impl Fn(usize) -> Place) -> Vec<Given<String>> {
    let values = values.into_iter().enumerate();
    values
        .map(|(index, value)| Given {
            value,
            place: place(index),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTEN: Names = Names {
        flag: "--listen",
        variable: "THINPIPE_LISTEN",
        key: &["listen"],
    };

    /// I5: command line, then environment, then file, then default, in all combinations.
    #[test]
    fn i5_the_stronger_layer_wins() {
        for bits in 0..8 {
            let given = |bit: u8, text: &str| (bits & bit != 0).then(|| text.to_owned());
            let layers = Layers {
                flags: Settings {
                    listen: given(1, "flag"),
                    ..Settings::default()
                },
                environment: Settings::from_environment(&|name| {
                    given(2, "environment").filter(|_| name == "THINPIPE_LISTEN")
                }),
            };
            let found = layers.one(&LISTEN, |s| s.listen.as_ref(), given(4, "file"));
            let expected = match bits {
                0 => None,
                _ if bits & 1 != 0 => Some("flag"),
                _ if bits & 2 != 0 => Some("environment"),
                _ => Some("file"),
            };
            assert_eq!(
                found.map(|given| given.value).as_deref(),
                expected,
                "{bits}"
            );
        }
    }

    /// I5: a stronger list replaces a weaker one; they are not joined.
    #[test]
    fn i5_lists_replace_each_other() {
        let layers = Layers {
            flags: Settings::default(),
            environment: Settings::from_environment(&|name| {
                (name == "THINPIPE_ALLOW_HOST").then(|| "a.example, b.example,".to_owned())
            }),
        };
        let names = Names {
            flag: "--allow-host",
            variable: "THINPIPE_ALLOW_HOST",
            key: &["allow_hosts"],
        };
        let file = Some(vec!["c.example".to_owned()]);
        let found = layers.many(&names, |s| &s.allow_host, file);
        let values: Vec<_> = found.iter().map(|given| given.value.as_str()).collect();
        assert_eq!(values, ["a.example", "b.example"]);
        assert_eq!(
            found[0].place,
            Place::Setting("THINPIPE_ALLOW_HOST".to_owned())
        );
    }

    #[test]
    fn empty_variables_are_not_set() {
        let settings = Settings::from_environment(&|_| Some(String::new()));
        assert_eq!(settings, Settings::default());
    }
}
