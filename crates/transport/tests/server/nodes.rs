//! Several servers that share their stores, as processes behind one address do.

mod connection;
mod death;
mod leaving;
mod lifetime;
mod news;
mod outage;
mod records;
mod support;
mod takeover;
mod tunnel;
mod visitor;
mod way;
