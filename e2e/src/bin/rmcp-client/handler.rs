//! What the server asks the client, and what it reports to it.
#![expect(
    deprecated,
    reason = "rmcp deprecates sampling, which servers ask for all the same"
)]

use std::mem;
use std::sync::{Mutex, PoisonError};

use rmcp::ErrorData;
use rmcp::handler::client::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ElicitationAction, Implementation,
    ProgressNotificationParam, Role, SamplingMessage, SamplingMessageContentBlock,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient};
use serde_json::Value;
use tokio::sync::watch;

/// A client that answers everything.
pub(crate) struct Handler {
    elicited: Value,
    asked: Mutex<Vec<&'static str>>,
    reports: watch::Sender<Vec<ProgressNotificationParam>>,
    tools_changed: watch::Sender<bool>,
}

impl Handler {
    pub(crate) fn new(elicited: Value) -> Self {
        Self {
            elicited,
            asked: Mutex::default(),
            reports: watch::Sender::default(),
            tools_changed: watch::Sender::default(),
        }
    }

    /// What has been asked since the last look.
    pub(crate) fn take_asked(&self) -> Vec<&'static str> {
        mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that was reported. The result of a call may overtake its reports on their way to us; the
    /// last of them is the one that says so.
    pub(crate) async fn all_progress(&self) -> Result<Vec<f64>, watch::error::RecvError> {
        let is_last = |report: &ProgressNotificationParam| Some(report.progress) == report.total;
        let mut reports = self.reports.subscribe();
        let all = reports
            .wait_for(|all| all.last().is_some_and(is_last))
            .await?;
        Ok(all.iter().map(|report| report.progress).collect())
    }

    /// Waits until something was reported.
    pub(crate) async fn first_progress(&self) -> Result<(), watch::error::RecvError> {
        let mut reports = self.reports.subscribe();
        reports.wait_for(|all| !all.is_empty()).await.map(|_| ())
    }

    /// Waits until the server has said that its tools changed.
    pub(crate) async fn told_of_tools(&self) {
        let mut changed = self.tools_changed.subscribe();
        // It cannot be closed while we have it.
        let _ = changed.wait_for(|changed| *changed).await;
    }

    fn note(&self, method: &'static str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(method);
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder()
            .enable_sampling()
            .enable_elicitation()
            .build();
        ClientConfig::new(capabilities, Implementation::new("e2e-rmcp", "1.0.0"))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.note("sampling/createMessage");
        let content = SamplingMessageContentBlock::text("forty-two");
        let message = SamplingMessage::new(Role::Assistant, content);
        Ok(CreateMessageResult::new(message, "e2e".to_owned()))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.note("elicitation/create");
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(self.elicited.clone()))
    }

    async fn on_progress(
        &self,
        report: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.reports.send_modify(|all| all.push(report));
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.tools_changed.send_replace(true);
    }
}
