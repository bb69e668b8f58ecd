//! The laws of the controllers, on a model of a whole cluster: store, informers that lag each on its
//! own, a runner that can be killed between any two writes, scheduler and kubelets.

mod cluster;
mod laws;
mod store;
