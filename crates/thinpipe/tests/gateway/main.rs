//! The gateway as a whole: the program in front of an upstream that counts, and clients that see every byte.

mod answers;
mod buffered;
mod cycles;
mod deprecation;
mod eras;
mod foreign;
mod headers;
mod inspect;
mod isolation;
mod opening;
mod process;
mod proxies;
mod rates;
mod reestablish;
mod refusals;
mod replicas;
mod scenarios;
mod sizes;
mod stores;
mod support;
mod unreadable;
