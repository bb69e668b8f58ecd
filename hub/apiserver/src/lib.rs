//! The hub's API server: Kubernetes' HTTP API over the rules of `hub_api` and the revisions of
//! `hub_storage`.
//!
//! [`Registry`] is the one way to objects, for HTTP and for everything else in the hub.
//! [`ApiServer`] puts HTTPS in front of it. Both are driven by the rows of
//! `hub_api::resources`: nothing here knows one kind from another, but for what only pods,
//! services and namespaces can do.
//!
//! Must never keep state that storage does not: a restart loses nothing but open connections.

mod admission;
mod aggregation;
pub mod audit;
pub mod auth;
mod backends;
mod flow;
mod handler;
pub mod limits;
mod metrics;
mod passing;
pub mod places;
pub mod registry;
mod request;
mod response;
mod server;
mod streaming;
mod tls;
mod usage;

pub use admission::Requester;
pub use registry::{
    Application, BootstrapError, Deleted, List, ListOptions, PatchKind, Registry, RegistryConfig,
    RegistryWatch, Seed, Selection, VersionMatch, WatchEvent, WatchOptions, WriteOptions, Written,
};
pub use server::{ApiServer, ServerConfig, VersionInfo};
pub use streaming::{NoNodes, NodeStream, NodeStreams, OpenError};
pub use tls::{ServerCertificate, TlsConfig, TlsError};
