//! HTTP/1.1 framing, as far as both sides need it (RFC 9112). Heads are tokenized by `httparse`;
//! what is here decides where a body ends, strictly, because two readers that disagree about that
//! are how requests are smuggled.

pub(crate) mod end;
pub(crate) mod fields;
pub(crate) mod framing;
