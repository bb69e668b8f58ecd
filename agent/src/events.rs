//! Hands events to the outbox, counted and bounded.

use std::sync::{Arc, Mutex, PoisonError};

use agent_core::{
    event::{Happening, Recorder, Severity, Subject},
    record::Rejection,
};

use crate::{clock::NodeClock, outbox::Outbox};

/// The node's voice.
pub struct Events {
    recorder: Mutex<Recorder>,
    outbox: Arc<Outbox>,
    clock: NodeClock,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub fn new(node: &str, outbox: Arc<Outbox>, clock: NodeClock) -> Self {
        Self { recorder: Mutex::new(Recorder::new(node.to_owned())), outbox, clock }
    }

    /// As it should be.
    pub async fn normal(&self, subject: Subject, reason: &'static str, message: String) {
        self.emit(Happening {
            subject,
            severity: Severity::Normal,
            reason: reason.into(),
            message,
        })
        .await;
    }

    /// Not as it should be.
    pub async fn warning(&self, subject: Subject, reason: &'static str, message: String) {
        self.emit(Happening {
            subject,
            severity: Severity::Warning,
            reason: reason.into(),
            message,
        })
        .await;
    }

    /// A pod that this node does not take.
    pub async fn rejection(&self, subject: Subject, rejection: Rejection) {
        let Rejection { reason, message } = rejection;
        let severity = Severity::Warning;
        self.emit(Happening { subject, severity, reason: reason.into(), message }).await;
    }

    async fn emit(&self, happening: Happening) {
        let now = self.clock.now();
        let event = {
            let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
            recorder.record(happening, now)
        };
        if let Some(event) = event {
            self.outbox.event(&event).await;
        }
    }
}
