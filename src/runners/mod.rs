//! CI providers: from an environment to a [`Job`](crate::job::Job) and what it declares.

mod host;
pub mod local;

pub use host::facts;
