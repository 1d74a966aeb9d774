//! CI providers: from an environment to a [`Job`](crate::job::Job) and what it declares.

pub mod github;
pub mod gitlab;
mod host;
pub mod import;
pub mod local;

pub use host::{facts, homes, own_program};
