//! How many messages clients may send.

use thinpipe_gateway::{Anonymous, RateLimits};
use thinpipe_proto::deprecation::Timestamp;
use thinpipe_proto::rate::Rate;

use super::messages::{says, wrong};
use super::{ONE, toml};
use crate::config::doubt::doubts;

const TOKEN: &str = "0123456789abcdef";

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

/// C23: every rate reaches its place, and is shown as it is.
#[test]
fn c23_every_rate_reaches_its_place() {
    let text = format!(
        "[limits]\nrate = \"10/s burst 20\"\nrate_total = \"1/90s\"\nrate_key = \"address\"\n\
         [limits.tiers]\ngold = \"5/min\"\n\
         [[tokens]]\nprincipal = \"alice\"\ntoken = \"{TOKEN}1\"\ntier = \"gold\"\n\
         [[tokens]]\nprincipal = \"alice\"\ntoken = \"{TOKEN}2\"\n\
         {ONE}rate = \"100/s\"\n"
    );
    let loaded = toml(&text).unwrap();
    let expected = RateLimits {
        principal: Some(rate("10/s burst 20")),
        total: Some(rate("1/90s")),
        tiers: [("gold".to_owned(), rate("5/min"))].into(),
        tier_of: [("alice".to_owned(), "gold".to_owned())].into(),
        anonymous: Anonymous::ByAddress,
    };
    let gateway = &loaded.config.gateway;
    assert_eq!(gateway.rates, expected);
    assert_eq!(gateway.upstreams[0].rate, Some(rate("100/s")));

    let shown = loaded.to_toml().unwrap();
    let again = toml(
        &shown
            .replace("${REDACTED}", TOKEN)
            .replacen(TOKEN, "fedcba9876543210", 1),
    );
    let again = again.unwrap().config.gateway;
    assert_eq!(again.rates, expected, "{shown}");
    assert_eq!(again.upstreams[0].rate, Some(rate("100/s")), "{shown}");

    let none = toml(ONE).unwrap().config.gateway;
    assert_eq!(none.rates, RateLimits::default());
    assert_eq!(none.upstreams[0].rate, None);
}

/// C23, I5: what is no rate is named, and so is a tier that is not there.
#[test]
fn c23_what_is_no_rate_is_named() {
    says(
        "t.toml",
        "[limits]\nrate = \"100\"\n",
        r#"
error: limits.rate: expected a number of messages and a time, such as "100/s", "30/min", "1/90s" or "30/min burst 5", found "100"
 --> t.toml:2:8
  |
2 | rate = "100"
  |        ^^^^^"#,
    );
    let error = toml(&format!("{ONE}rate = 100\n")).unwrap_err().to_string();
    assert!(
        error.starts_with("error: upstreams[0].rate: expected a number of messages and a time")
    );
    assert!(error.contains("found a number"), "{error}");
    let token = |tier: &str| {
        format!("[[tokens]]\nprincipal = \"alice\"\ntoken = \"{TOKEN}{tier}\"\ntier = \"{tier}\"\n")
    };
    wrong(
        &format!("{}{ONE}", token("gold")),
        "tokens[0].tier: there is no tier `gold`",
        "say what it is: `[limits.tiers]` and `gold = \"100/s\"`",
    );
    let tiers = "[limits.tiers]\ngold = \"1/s\"\niron = \"1/h\"\n";
    wrong(
        &format!("{tiers}{}{ONE}", token("glod")),
        "tokens[0].tier: there is no tier `glod`",
        "did you mean `gold`?",
    );
    wrong(
        &format!("{tiers}{}{}{ONE}", token("gold"), token("iron")),
        "tokens[1].tier: `alice` is in two tiers, `gold` and `iron`",
        "all tokens of a principal have one rate together: name one tier",
    );
}

/// C23, I5: what has no effect is said, though nothing is wrong with it.
#[test]
fn c23_idle_rates_are_told() {
    let told = |text: &str| {
        let loaded = toml(&format!("{text}{ONE}")).unwrap();
        doubts(&loaded.config, Timestamp::from_unix(0))
    };
    let rate_key =
        "limits.rate_key: there is no `limits.rate` that clients could be told apart for";
    assert_eq!(told("[limits]\nrate_key = \"address\"\n"), [rate_key]);
    let tier = "limits.tiers.gold: no `tokens.tier` names it";
    assert_eq!(told("[limits.tiers]\ngold = \"1/s\"\n"), [tier]);
    let token =
        format!("[[tokens]]\nprincipal = \"alice\"\ntoken = \"{TOKEN}\"\ntier = \"gold\"\n");
    let used = format!(
        "[limits]\nrate = \"1/s\"\nrate_key = \"address\"\n[limits.tiers]\ngold = \"1/s\"\n{token}"
    );
    assert!(told(&used).is_empty());
}
