//! The server's methods.
#![expect(
    deprecated,
    reason = "the suite asks for features that the newest revision deprecates"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::*;
use rmcp::service::{
    NotificationContext, Peer, RequestContext, SubscriptionContext, SubscriptionSink,
};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};

use crate::asking;
use crate::fixtures::Fixtures;
use crate::flows::{self, Step};
use crate::tasks;

type Context = RequestContext<RoleServer>;

/// One value serves all sessions and all stateless requests.
#[derive(Clone)]
pub(crate) struct Handler {
    fixtures: Arc<Fixtures>,
    tasks: TaskManager,
    subscriptions: Arc<Mutex<HashMap<u64, SubscriptionSink>>>,
    next_subscription: Arc<AtomicU64>,
    /// Clients in sessions.
    peers: Arc<Mutex<Vec<Peer<RoleServer>>>>,
    codec: RequestStateCodec,
}

impl Handler {
    pub(crate) fn new(fixtures: Fixtures) -> Self {
        Self {
            fixtures: Arc::new(fixtures),
            tasks: TaskManager::new(),
            subscriptions: Arc::default(),
            next_subscription: Arc::default(),
            peers: Arc::default(),
            // A fixed key: the state of one run means nothing to anyone else.
            codec: RequestStateCodec::new_unchecked(
                b"thinpipe end-to-end request state".as_slice(),
            ),
        }
    }

    fn sinks(&self) -> Vec<SubscriptionSink> {
        self.lock_subscriptions().values().cloned().collect()
    }

    /// The clients whose sessions go on.
    fn peers(&self) -> Vec<Peer<RoleServer>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|peer| !peer.is_transport_closed());
        peers.clone()
    }

    fn lock_subscriptions(&self) -> std::sync::MutexGuard<'_, HashMap<u64, SubscriptionSink>> {
        // Nothing that holds the lock can leave the map half changed.
        self.subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn report_progress(&self, context: &Context) -> Result<CallToolResult, ErrorData> {
        let Some(token) = context.meta.get_progress_token() else {
            return Ok(text("Nobody asked for progress"));
        };
        for progress in [0.0, 50.0, 100.0] {
            let notification = ProgressNotificationParam::new(token.clone(), progress)
                .with_total(100.0)
                .with_message(format!("Completed step {progress} of 100"));
            context
                .peer
                .notify_progress(notification)
                .await
                .map_err(internal)?;
            // The TypeScript SDK loses progress that comes in one piece with the response.
            tokio::time::sleep(STEP).await;
        }
        Ok(text("Progress was reported"))
    }

    async fn log(&self, context: &Context, lines: &[&str]) -> Result<CallToolResult, ErrorData> {
        for line in lines {
            let notification =
                LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(line));
            context
                .peer
                .notify_logging_message(notification)
                .await
                .map_err(internal)?;
        }
        Ok(text("The log was written"))
    }

    async fn sample(
        &self,
        prompt: &str,
        responses: Option<&InputResponses>,
        context: &Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let params = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt)], 100);
        let question = InputRequest::CreateMessage(CreateMessageRequest::new(params));
        Ok(match asking::once(context, responses, question).await? {
            Ok(answer) => {
                let said = answer["content"]["text"].as_str().unwrap_or_default();
                text(format!("LLM response: {said}")).into()
            }
            Err(asks) => asks.into(),
        })
    }

    async fn elicit(
        &self,
        mut request: ElicitRequestParams,
        message: Option<&Value>,
        responses: Option<&InputResponses>,
        context: &Context,
    ) -> Result<CallToolResponse, ErrorData> {
        if let (
            ElicitRequestParams::FormElicitationParams { message: shown, .. },
            Some(Value::String(message)),
        ) = (&mut request, message)
        {
            shown.clone_from(message);
        }
        let question = InputRequest::Elicitation(ElicitRequest::new(request));
        Ok(match asking::once(context, responses, question).await? {
            Ok(answer) => {
                let action = answer["action"].as_str().unwrap_or_default();
                let content = &answer["content"];
                text(format!("User response: action={action}, content={content}")).into()
            }
            Err(asks) => asks.into(),
        })
    }

    /// Takes a flow as far as it goes: to what the client is asked by a result, or to its end.
    async fn flow(
        &self,
        name: &str,
        context: &Context,
        responses: Option<&InputResponses>,
        state: Option<&str>,
    ) -> Option<Result<Step, ErrorData>> {
        let (mut responses, mut state) = (responses.cloned(), state.map(str::to_owned));
        loop {
            let step = self.flow_step(name, context, responses.as_ref(), state.as_deref())?;
            let asks = match step {
                Ok(Step::Ask(asks)) if !asking::by_results(context) => asks,
                other => return Some(other),
            };
            let questions = asks.input_requests.unwrap_or_default();
            match asking::answers(&context.peer, &questions).await {
                Ok(answers) => responses = Some(answers),
                Err(refused) => return Some(Err(refused)),
            }
            state = asks.request_state;
        }
    }

    fn flow_step(
        &self,
        name: &str,
        context: &Context,
        responses: Option<&InputResponses>,
        state: Option<&str>,
    ) -> Option<Result<Step, ErrorData>> {
        let flow = self.fixtures.flows.get(name)?;
        let capabilities = context.client_capabilities().unwrap_or_default();
        Some(flows::step(
            flow,
            &self.codec,
            &capabilities,
            responses,
            state,
        ))
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_tasks()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("thinpipe-conformance-server", "0.1.0"))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.push(context.peer);
    }

    // rmcp checks the `Mcp-Param-*` headers of the tools it can look up.
    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.fixtures
            .tools
            .iter()
            .find(|tool| tool.name == name)
            .cloned()
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult {
            tools: self.fixtures.tools.clone(),
            ..Default::default()
        }
        .with_ttl_ms(CACHE_MS)
        .with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.as_ref();
        let (responses, state) = (request.input_responses.as_ref(), &request.request_state);
        let mut arguments = request.arguments.clone().unwrap_or_default();
        if let Some(step) = self.flow(name, &context, responses, state.as_deref()).await {
            match step? {
                Step::Ask(ask) => return Ok(ask.into()),
                // The answer is found by a task, which is told what was gathered.
                Step::Answer(answer) if tasks::is_fixture(name) => {
                    arguments.insert("gathered".into(), answer.into());
                }
                Step::Answer(answer) => return Ok(text(answer).into()),
            }
        }
        if tasks::is_fixture(name) {
            let can_have_task = context
                .client_capabilities()
                .is_some_and(|capabilities| capabilities.supports_tasks());
            let asks = self.fixtures.task_inputs.get(name);
            let asks = asks.cloned().unwrap_or_default();
            return tasks::call(&self.tasks, asks, name, &arguments, can_have_task).await;
        }
        if let Some(result) = self.fixtures.tool_results.get(name) {
            return Ok(result.clone().into());
        }
        if let Some(elicitation) = self.fixtures.elicitations.get(name) {
            let message = arguments.get("message");
            let elicitation = elicitation.clone();
            return self.elicit(elicitation, message, responses, &context).await;
        }
        let result = match name {
            "test_tool_with_logging" => {
                self.log(&context, &["started", "processing", "completed"])
                    .await?
            }
            // 2026-07-28: nothing is logged for a request that names no level.
            "test_logging_tool" if context.meta.log_level().is_none() => text("Nothing to log"),
            "test_logging_tool" => self.log(&context, &["a level was asked for"]).await?,
            "test_tool_with_progress" => self.report_progress(&context).await?,
            "test_sampling" => {
                let prompt = arguments
                    .get("prompt")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                return self.sample(prompt, responses, &context).await;
            }
            "test_custom_header" | "json_schema_2020_12_tool" => text(json!(arguments).to_string()),
            "test_missing_capability" => {
                let capabilities = context.client_capabilities().unwrap_or_default();
                if capabilities.sampling.is_none() {
                    let required = ClientCapabilities::builder().enable_sampling().build();
                    return Err(ErrorData::missing_required_client_capability(required));
                }
                text("The capability is there")
            }
            "test_trigger_tool_change" => {
                for sink in self.sinks() {
                    // Who has left meanwhile need not be told.
                    let _ = sink.notify_tool_list_changed().await;
                }
                for peer in self.peers() {
                    let _ = peer.notify_tool_list_changed().await;
                }
                text("The tools changed")
            }
            "test_trigger_prompt_change" => {
                for sink in self.sinks() {
                    let _ = sink.notify_prompt_list_changed().await;
                }
                for peer in self.peers() {
                    let _ = peer.notify_prompt_list_changed().await;
                }
                text("The prompts changed")
            }
            _ => return Err(ErrorData::invalid_params(format!("no tool {name:?}"), None)),
        };
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult {
            prompts: self.fixtures.prompts.clone(),
            ..Default::default()
        }
        .with_ttl_ms(CACHE_MS)
        .with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let name = request.name.as_str();
        let (responses, state) = (request.input_responses.as_ref(), &request.request_state);
        if let Some(step) = self.flow(name, &context, responses, state.as_deref()).await {
            return Ok(match step? {
                Step::Ask(ask) => ask.into(),
                Step::Answer(answer) => prompt(answer).into(),
            });
        }
        if name == "test_prompt_with_arguments" {
            let arguments = json!(request.arguments.unwrap_or_default());
            let shown = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
            let answer = format!(
                "Prompt with arguments: arg1='{}', arg2='{}'",
                shown("arg1"),
                shown("arg2")
            );
            return Ok(prompt(answer).into());
        }
        match self.fixtures.prompt_results.get(name) {
            Some(result) => Ok(result.clone().into()),
            None => Err(ErrorData::invalid_params(
                format!("no prompt {name:?}"),
                None,
            )),
        }
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult {
            resources: self.fixtures.resources.clone(),
            ..Default::default()
        }
        .with_ttl_ms(CACHE_MS)
        .with_cache_scope(CacheScope::Public))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let resource_templates = self.fixtures.resource_templates.clone();
        Ok(ListResourceTemplatesResult {
            resource_templates,
            ..Default::default()
        }
        .with_ttl_ms(CACHE_MS)
        .with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let id = uri
            .strip_prefix("test://template/")
            .and_then(|id| id.strip_suffix("/data"));
        let result = match (self.fixtures.resource_results.get(uri), id) {
            (Some(result), _) => result.clone(),
            (None, Some(id)) => {
                let data =
                    json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                let contents = ResourceContents::TextResourceContents {
                    uri: uri.into(),
                    mime_type: Some("application/json".into()),
                    text: data.to_string(),
                    meta: None,
                };
                ReadResourceResult::new(vec![contents])
            }
            (None, None) => {
                let data = json!({ "uri": uri });
                return Err(ErrorData::resource_not_found(
                    format!("no resource {uri}"),
                    Some(data),
                ));
            }
        };
        Ok(result
            .with_ttl_ms(CACHE_MS)
            .with_cache_scope(CacheScope::Public)
            .into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: Context,
    ) -> Result<CompleteResult, ErrorData> {
        let begun = request.argument.value;
        let completion = CompletionInfo::new(vec![format!("{begun}aris"), format!("{begun}ark")]);
        Ok(CompleteResult::new(completion.map_err(internal)?))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let key = self.next_subscription.fetch_add(1, Ordering::Relaxed);
        self.lock_subscriptions()
            .insert(key, context.sink().clone());
        context.cancelled().await;
        self.lock_subscriptions().remove(&key);
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: Context,
    ) -> Result<GetTaskResult, ErrorData> {
        Ok(GetTaskResult::new(self.tasks.get_task(&request.task_id)?))
    }

    async fn update_task(&self, request: UpdateTaskParams, _: Context) -> Result<(), ErrorData> {
        self.tasks
            .update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: Context) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}

fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

fn prompt(text: impl Into<String>) -> GetPromptResult {
    GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)])
}

fn internal(error: impl ToString) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

/// Between two reports of progress.
const STEP: Duration = Duration::from_millis(20);

/// How long clients may keep lists and contents.
const CACHE_MS: u64 = 60_000;
