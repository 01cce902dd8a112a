//! Where sessions are kept.

use std::time::Duration;

use thinpipe_proto::deprecation::Timestamp;
use thinpipe_store::{RedisConfig, RedisKind};

use super::messages::wrong;
use super::{ONE, Settings, load_text, toml};
use crate::config::doubt::doubts;
use crate::config::{Manner, StoreConfig, for_url};

const SECRET: &str = "hunter2-of-redis";

fn redis(store: &StoreConfig) -> &RedisConfig {
    match store {
        StoreConfig::Redis(config) => config,
        StoreConfig::Memory => panic!("it is in memory"),
    }
}

/// F14: every setting reaches its place; what is not written has the defaults of the issue.
#[test]
fn f14_every_setting_of_the_store_reaches_its_place() {
    let loaded = toml(&format!("store = \"redis://h:1/2\"\n{ONE}")).unwrap();
    let config = redis(&loaded.config.store);
    assert_eq!((&config.kind, config.database), (&RedisKind::Single, 2));
    assert_eq!(config.addresses, [("h".to_owned(), 1)]);
    assert_eq!((&*config.prefix, config.tries), ("thinpipe", 3));
    let seconds = Duration::from_secs;
    assert_eq!(config.operation_timeout, seconds(1));
    assert_eq!(config.connect_timeout, seconds(5));

    let text = format!(
        "{ONE}[store]\nurl = \"redis+sentinel://a,b:2/main\"\nuser = \"me\"\npassword = \"{SECRET}\"\n\
         sentinel_user = \"you\"\nsentinel_password = \"{SECRET}\"\nprefix = \"mine\"\n\
         operation_timeout = \"200ms\"\nconnect_timeout = \"2s\"\ntries = 1\n"
    );
    let loaded = toml(&text).unwrap();
    let check = |store: &StoreConfig| {
        let config = redis(store);
        assert_eq!(store.to_string(), "redis+sentinel://a:26379,b:2/main");
        let own = config.credentials.clone().unwrap();
        assert_eq!((own.user.as_deref(), &*own.password), (Some("me"), SECRET));
        let of_sentinel = config.sentinel_credentials.clone().unwrap();
        assert_eq!(of_sentinel.user.as_deref(), Some("you"));
        assert_eq!((&*config.prefix, config.tries), ("mine", 1));
        assert_eq!(config.operation_timeout, Duration::from_millis(200));
        assert_eq!(config.connect_timeout, seconds(2));
    };
    check(&loaded.config.store);
    // I5: what is shown says the same, but for secrets.
    let shown = loaded.to_toml().unwrap();
    assert!(!shown.contains(SECRET), "{shown}");
    check(
        &toml(&shown.replace("${REDACTED}", SECRET))
            .unwrap()
            .config
            .store,
    );
}

/// F1, I5: command line, environment and file; the table's other keys stay.
#[test]
fn f1_a_store_is_named_in_every_layer() {
    let none = |_: &str| None;
    let variable = |name: &str| {
        let value = "redis://of-the-environment";
        (name == "THINPIPE_STORE").then(|| value.to_owned())
    };
    let flags = Settings {
        store: Some("redis://of-the-flag".to_owned()),
        ..Settings::default()
    };
    let direct = |flags: &Settings, environment: &dyn Fn(&str) -> Option<String>| {
        let config = for_url("http://h/mcp", Manner::default(), flags, environment);
        config.unwrap().store.to_string()
    };
    assert_eq!(direct(&Settings::default(), &none), "memory");
    assert_eq!(
        direct(&Settings::default(), &variable),
        "redis://of-the-environment:6379"
    );
    assert_eq!(direct(&flags, &variable), "redis://of-the-flag:6379");

    let text = format!("{ONE}[store]\nurl = \"redis://of-the-file\"\nprefix = \"mine\"\n");
    let loaded = load_text("t.toml", &text, &flags).unwrap();
    assert_eq!(loaded.config.store.to_string(), "redis://of-the-flag:6379");
    assert_eq!(redis(&loaded.config.store).prefix, "mine");
    let shown = loaded.to_toml().unwrap();
    assert!(shown.contains("\"redis://of-the-flag:6379\""), "{shown}");

    let memory = Settings {
        store: Some("memory".to_owned()),
        ..Settings::default()
    };
    let loaded = load_text("t.toml", &text, &memory).unwrap();
    assert!(matches!(loaded.config.store, StoreConfig::Memory));
    let shown = loaded.to_toml().unwrap();
    assert!(shown.contains("store = \"memory\"\n"), "{shown}");
}

/// A13, I5: a password is not shown, wherever it stands; a URL of the environment is shown as it was written.
#[test]
fn a13_no_password_of_the_store_is_shown() {
    for (text, expected) in [
        (
            format!("store = \"redis://me:{SECRET}@h\"\n{ONE}"),
            "url = \"redis://h:6379\"\nuser = \"me\"\npassword = \"${REDACTED}\"",
        ),
        (
            format!("store = \"${{NONE:-redis://h}}\"\n{ONE}"),
            "url = \"${NONE:-redis://h}\"",
        ),
        (
            format!("{ONE}[store]\nurl = \"redis://h\"\npassword = \"${{API_TOKEN}}\"\n"),
            "password = \"${API_TOKEN}\"",
        ),
    ] {
        let loaded = toml(&text).unwrap();
        let shown = loaded.to_toml().unwrap();
        assert!(shown.contains(expected), "{shown}");
        assert!(!shown.contains(SECRET), "{shown}");
        let said = format!("{:?}", loaded.config);
        assert!(
            !said.contains(SECRET) && !said.contains("s3cret-of"),
            "{said}"
        );
    }
    // Of a URL that is wrong, nothing is quoted, and its line is not shown.
    for text in [
        format!("store = \"redis://me:{SECRET}@h:x\""),
        format!("store = \"redis:/me:{SECRET}@h\""),
        format!("[store]\nurl = \"redis://:{SECRET}@h/main\""),
        format!("[store]\nurl = \"redis://h\"\npassword = [\"{SECRET}\"]"),
        format!("[store]\nurl = \"redis://h\"\npasword = \"{SECRET}\""),
    ] {
        let error = toml(&format!("{text}\n{ONE}")).unwrap_err().to_string();
        assert!(!error.contains(SECRET), "{error}");
    }
}

/// F14, I5: what is wrong is said in one message, with its place and what to do.
#[test]
fn f14_what_is_wrong_with_a_store_is_named() {
    let example = "write it as in redis://127.0.0.1:6379, or \"memory\" for this process alone";
    let schemes = "URLs of Redis begin with redis://, redis+sentinel:// or redis+cluster://, or with rediss for TLS";
    wrong(
        "store = \"memroy\"\n",
        &format!("store: this is no store: {schemes}"),
        example,
    );
    for (url, example) in [
        (
            "redis+sentinel://h",
            "write it as in redis+sentinel://127.0.0.1:26379/mymaster",
        ),
        (
            "redis+cluster://h/1",
            "write it as in redis+cluster://127.0.0.1:6379",
        ),
    ] {
        let error = toml(&format!("store = \"{url}\"\n{ONE}")).unwrap_err();
        assert!(error.to_string().ends_with(example), "{error}");
    }
    let flags = Settings {
        store: Some("localhost:6379".to_owned()),
        ..Settings::default()
    };
    let error = for_url("http://h/mcp", Manner::default(), &flags, &|_| None).unwrap_err();
    let said = format!("error: --store: this is no store: {schemes}\n  = help: {example}");
    assert_eq!(error.to_string(), said);
    for (table, message, mend) in [
        (
            "prefix = \"x\"",
            "store: the store has no `url`",
            "add `url = \"redis://127.0.0.1:6379\"`",
        ),
        (
            "url = \"memory\"\nprefix = \"x\"",
            "store.prefix: `prefix` means nothing to a store in memory",
            "remove it, or name a Redis",
        ),
        (
            "url = \"redis://h\"\nuser = \"me\"",
            "store.user: there is a user without a password",
            "add `password` or `password_file`",
        ),
        (
            "url = \"redis://h\"\npassword = \"a\"\npassword_file = \"b\"",
            "store.password_file: there are both `password` and `password_file`",
            "remove one of them",
        ),
        (
            "url = \"redis://:a@h\"\npassword = \"a\"",
            "store.url: the URL holds a user or a password, and so does the table",
            "take them out of one of them",
        ),
        (
            "url = \"redis://h\"\nsentinel_password = \"a\"",
            "store.sentinel_password: `sentinel_password` means something only with redis+sentinel://",
            "remove it",
        ),
        (
            "url = \"redis://h\"\nca_file = \"a\"",
            "store.ca_file: certificates mean something only with rediss://",
            "write rediss:// in the URL, or remove this",
        ),
        (
            "url = \"redis://h\"\nprefix = \"{x}\"",
            "store.prefix: `{x}` cannot be what keys begin with",
            "use 1 to 64 letters, digits, `-`, `_`, `.` and `:`",
        ),
        (
            "url = \"redis://h\"\ntries = 0",
            "store.tries: 0 is not from 1 to 10",
            "the default is 3",
        ),
        (
            "url = \"redis://h\"\noperation_timeout = \"1h\"",
            "store.operation_timeout: 1h is not from 10ms to 1m",
            "the default is 1s",
        ),
    ] {
        wrong(&format!("{ONE}[store]\n{table}\n"), message, mend);
    }
}

/// I5: a URL beside a table is two of one key; what is to be written instead is said.
#[test]
fn i5_a_url_beside_a_table_is_mended() {
    wrong(
        "store = \"redis://h\"\n[store]\nprefix = \"a\"\n",
        "this is not TOML: duplicate key",
        "`store` is a URL or a table: in `[store]`, write the URL as `url`",
    );
}

/// I5: headers that would be named in vain are told, and so are those that no store carries.
#[test]
fn i5_headers_that_are_carried_in_vain_are_told() {
    wrong(
        "carried_headers = [\"x-tenant\", \"X-TENANT\"]",
        "carried_headers[1]: `X-TENANT` is there twice",
        "remove one of them: upper and lower case are the same here",
    );
    wrong(
        "carried_headers = [\"Accept\"]",
        "carried_headers[0]: `Accept` goes along in any case",
        "take it out: this is for headers beside those that always do",
    );
    let told = |store: &str| {
        let loaded = toml(&format!("carried_headers = [\"x-tenant\"]\n{store}{ONE}")).unwrap();
        doubts(&loaded.config, Timestamp::from_unix(0))
    };
    let in_vain =
        "carried_headers: means nothing here, as there is no `store` that other gateways share";
    assert_eq!(told(""), [in_vain]);
    assert!(told("store = \"redis://h\"\n").is_empty());
}
