//! The gateway as a whole: the program in front of an upstream that counts, and clients that see every byte.

mod scenarios;
mod support;
