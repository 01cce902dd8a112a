//! The server's methods.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{CallToolResponse, GetTaskResult, RequestStateCodec, UpdateTaskParams};
use rmcp::task_manager::TaskManager;
use serde_json::{Value, json};
use thinpipe_transport::mcp::{
    Cache, Context, InputRequest, LogLevel, MessageHandler, Notifier, Outcome, Request, RpcError,
    ServerInfo,
};

use crate::{flows, tasks};

/// The tasks extension.
const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Between two reports of progress.
const STEP: Duration = Duration::from_millis(20);

/// How long a client stays away when it is told to come back.
const RETRY: Duration = Duration::from_millis(500);

/// How long it takes to find the answer that a client comes back for.
const THINKING: Duration = Duration::from_secs(1);

/// Everything that the suite expects to find, and what steers the answers.
pub(crate) struct Fixtures {
    all: Value,
    codec: RequestStateCodec,
    /// rmcp's: what becomes of tasks is no affair of a transport.
    tasks: TaskManager,
    notifier: Arc<OnceLock<Notifier>>,
}

impl Fixtures {
    /// # Errors
    /// If the file is no JSON.
    pub(crate) fn load() -> Result<Self, serde_json::Error> {
        let all = serde_json::from_str(include_str!("../conformance-server/fixtures.json"))?;
        // A fixed key: the state of one run means nothing to anyone else.
        let key = b"thinpipe end-to-end request state".as_slice();
        let codec = RequestStateCodec::new_unchecked(key);
        Ok(Self {
            all,
            codec,
            tasks: TaskManager::new(),
            notifier: Arc::default(),
        })
    }

    /// Where the server's notifier is to be put.
    pub(crate) fn notifier(&self) -> Arc<OnceLock<Notifier>> {
        Arc::clone(&self.notifier)
    }

    async fn call_tool(&self, request: &Request, context: &Context) -> Result<Outcome, RpcError> {
        let name: String = request.param("name")?;
        let mut arguments = request.param::<Value>("arguments")?;
        if let Some(flow) = self.all["flows"].get(&name) {
            match flows::step(flow, &self.codec, context)? {
                flows::Step::Ask(outcome) => return Ok(outcome),
                // The answer is found by a task, which is told what was gathered.
                flows::Step::Answer(answer) if tasks::is_fixture(&name) => {
                    arguments["gathered"] = answer.into();
                }
                flows::Step::Answer(answer) => return Ok(text(&answer)),
            }
        }
        if tasks::is_fixture(&name) {
            return self.call_as_task(&name, &arguments, context).await;
        }
        if let Some(result) = self.all["tool_results"].get(&name) {
            return Ok(result.clone().into());
        }
        let asked = if name == "elicit" {
            "test_elicitation"
        } else {
            &name
        };
        if let Some(asked) = self.all["elicitations"].get(asked) {
            return elicit(asked, &arguments, context).await;
        }
        self.call_special(&name, &arguments, context).await
    }

    async fn call_special(
        &self,
        name: &str,
        arguments: &Value,
        context: &Context,
    ) -> Result<Outcome, RpcError> {
        match name {
            "test_tool_with_logging" => log(&["started", "processing", "completed"], context).await,
            "test_logging_tool" => log(&["a level was asked for"], context).await,
            "test_tool_with_progress" | "count" => {
                for step in [0.0, 50.0, 100.0] {
                    let message = format!("Completed step {step} of 100");
                    context.progress(step, Some(100.0), Some(&message)).await;
                    // The TypeScript SDK loses progress that comes in one piece with the response.
                    tokio::time::sleep(STEP).await;
                }
                Ok(text("Progress was reported"))
            }
            "test_sampling" | "sample" => {
                let prompt = arguments["prompt"].as_str().unwrap_or("What is it?");
                let content = json!({ "type": "text", "text": prompt });
                let messages = json!([{ "role": "user", "content": content }]);
                let params = json!({ "messages": messages, "maxTokens": 100 });
                let answer = match ask("sampling/createMessage", params, context).await? {
                    Ok(answer) => answer,
                    Err(asks) => return Ok(asks),
                };
                let said = answer["content"]["text"].as_str().unwrap_or_default();
                Ok(text(&format!("LLM response: {said}")))
            }
            "test_custom_header" | "json_schema_2020_12_tool" => Ok(text(&arguments.to_string())),
            "test_missing_capability" => {
                if context.client_capabilities()["sampling"].is_object() {
                    return Ok(text("The capability is there"));
                }
                Err(RpcError::missing_capability(json!({ "sampling": {} })))
            }
            "test_reconnection" => {
                context.leave_stream(RETRY);
                tokio::time::sleep(THINKING).await;
                Ok(text("The client came back"))
            }
            "test_trigger_tool_change" => {
                if let Some(notifier) = self.notifier.get() {
                    notifier.tools_changed().await;
                }
                Ok(text("The tools changed"))
            }
            "test_trigger_prompt_change" => {
                if let Some(notifier) = self.notifier.get() {
                    notifier.prompts_changed().await;
                }
                Ok(text("The prompts changed"))
            }
            _ => Err(RpcError::invalid_params(format!("no tool {name:?}"))),
        }
    }

    async fn call_as_task(
        &self,
        name: &str,
        arguments: &Value,
        context: &Context,
    ) -> Result<Outcome, RpcError> {
        let extensions = &context.client_capabilities()["extensions"];
        let can_have_task = extensions[TASKS].is_object();
        let asks = self.all["task_inputs"].get(name).cloned();
        let asks = serde_json::from_value(asks.unwrap_or_else(|| json!({}))).map_err(internal)?;
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let called = tasks::call(&self.tasks, asks, name, &arguments, can_have_task).await;
        match called.map_err(refused)? {
            CallToolResponse::Complete(result) => as_outcome(&result),
            CallToolResponse::Task(created) => as_outcome(&created),
            other => Err(internal(format!("no answer of a fixture: {other:?}"))),
        }
    }

    /// The methods of the tasks extension.
    fn of_task(&self, request: &Request, context: &Context) -> Result<Outcome, RpcError> {
        if !context.client_capabilities()["extensions"][TASKS].is_object() {
            return Err(RpcError::missing_capability(
                json!({ "extensions": { TASKS: {} } }),
            ));
        }
        let id: String = request.param("taskId")?;
        match request.method() {
            "tasks/get" => as_outcome(&GetTaskResult::new(
                self.tasks.get_task(&id).map_err(refused)?,
            )),
            "tasks/update" => {
                let update: UpdateTaskParams = request.params()?;
                let updated = self.tasks.update_task(&id, update.input_responses);
                updated.map_err(refused)?;
                Ok(json!({}).into())
            }
            _ => {
                self.tasks.cancel_task(&id).map_err(refused)?;
                Ok(json!({}).into())
            }
        }
    }

    fn get_prompt(&self, request: &Request, context: &Context) -> Result<Outcome, RpcError> {
        let name: String = request.param("name")?;
        if let Some(flow) = self.all["flows"].get(&name) {
            return Ok(match flows::step(flow, &self.codec, context)? {
                flows::Step::Ask(outcome) => outcome,
                flows::Step::Answer(answer) => prompt(&answer),
            });
        }
        if name == "test_prompt_with_arguments" {
            let arguments = request.param::<Value>("arguments")?;
            let shown = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
            let (first, second) = (shown("arg1"), shown("arg2"));
            return Ok(prompt(&format!(
                "Prompt with arguments: arg1='{first}', arg2='{second}'"
            )));
        }
        let result = self.all["prompt_results"].get(&name);
        let missing = || RpcError::invalid_params(format!("no prompt {name:?}"));
        Ok(result.ok_or_else(missing)?.clone().into())
    }

    fn read_resource(&self, request: &Request) -> Result<Outcome, RpcError> {
        let uri: String = request.param("uri")?;
        if let Some(result) = self.all["resource_results"].get(&uri) {
            return Ok(result.clone().into());
        }
        let id = uri
            .strip_prefix("test://template/")
            .and_then(|id| id.strip_suffix("/data"));
        let id = id.ok_or_else(|| RpcError::resource_not_found(&uri))?;
        let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
        let text = data.to_string();
        let contents = json!([{ "uri": uri, "mimeType": "application/json", "text": text }]);
        Ok(json!({ "contents": contents }).into())
    }
}

impl MessageHandler for Fixtures {
    fn info(&self) -> ServerInfo {
        ServerInfo::new("thinpipe-library-server", "0.1.0")
            .capability("completions", json!({}))
            .capability("extensions", json!({ TASKS: {} }))
            .capability("logging", json!({}))
            .capability("prompts", json!({ "listChanged": true }))
            .capability(
                "resources",
                json!({ "subscribe": true, "listChanged": true }),
            )
            .capability("tools", json!({ "listChanged": true }))
            .cache(Cache {
                ttl: Duration::from_secs(60),
                public: true,
            })
    }

    async fn request(&self, request: Request, context: Context) -> Result<Outcome, RpcError> {
        match request.method() {
            "tools/list" => Ok(json!({ "tools": self.all["tools"] }).into()),
            "tools/call" => self.call_tool(&request, &context).await,
            "prompts/list" => Ok(json!({ "prompts": self.all["prompts"] }).into()),
            "prompts/get" => self.get_prompt(&request, &context),
            "resources/list" => Ok(json!({ "resources": self.all["resources"] }).into()),
            "resources/templates/list" => {
                let templates = &self.all["resource_templates"];
                Ok(json!({ "resourceTemplates": templates }).into())
            }
            "resources/read" => self.read_resource(&request),
            "completion/complete" => {
                let argument = request.param::<Value>("argument")?;
                let begun = argument["value"].as_str().unwrap_or_default();
                let values = json!([format!("{begun}aris"), format!("{begun}ark")]);
                Ok(json!({ "completion": { "values": values } }).into())
            }
            "tasks/get" | "tasks/update" | "tasks/cancel" => self.of_task(&request, &context),
            other => Err(RpcError::method_not_found(other)),
        }
    }

    fn tool_schema(&self, name: &str) -> Option<&Value> {
        let mut tools = self.all["tools"].as_array()?.iter();
        tools.find(|tool| tool["name"] == name)?.get("inputSchema")
    }
}

async fn log(lines: &[&str], context: &Context) -> Result<Outcome, RpcError> {
    for line in lines {
        context.log(LogLevel::Info, None, *line).await;
    }
    Ok(text("The log was written"))
}

async fn elicit(asked: &Value, arguments: &Value, context: &Context) -> Result<Outcome, RpcError> {
    let mut params = asked.clone();
    if arguments["message"].is_string() {
        params["message"] = arguments["message"].clone();
    }
    let answer = match ask("elicitation/create", params, context).await? {
        Ok(answer) => answer,
        Err(asks) => return Ok(asks),
    };
    let (action, content) = (
        answer["action"].as_str().unwrap_or_default(),
        &answer["content"],
    );
    Ok(text(&format!(
        "User response: action={action}, content={content}"
    )))
}

/// One question, in the way of the client's revision: its answer, or the result that asks for it.
async fn ask(
    method: &str,
    params: Value,
    context: &Context,
) -> Result<Result<Value, Outcome>, RpcError> {
    let method = method.to_owned();
    let request = InputRequest { method, params };
    if context.session().is_some() {
        let answer = context.ask(&request, Duration::from_secs(60)).await?;
        return Ok(Ok(answer));
    }
    Ok(match context.input(ONLY) {
        Some(answer) => Ok(answer.clone()),
        None => Err(Outcome::InputRequired {
            requests: BTreeMap::from([(ONLY.to_owned(), request)]),
            state: None,
        }),
    })
}

/// The key of the only question.
const ONLY: &str = "answer";

fn as_outcome(result: &impl serde::Serialize) -> Result<Outcome, RpcError> {
    serde_json::to_value(result)
        .map(Outcome::from)
        .map_err(internal)
}

fn refused(error: ErrorData) -> RpcError {
    let told = RpcError::new(error.code.0, error.message);
    match error.data {
        Some(data) => told.with_data(data),
        None => told,
    }
}

fn internal(error: impl ToString) -> RpcError {
    RpcError::internal(error.to_string())
}

fn text(text: &str) -> Outcome {
    json!({ "content": [{ "type": "text", "text": text }] }).into()
}

fn prompt(text: &str) -> Outcome {
    let content = json!({ "type": "text", "text": text });
    json!({ "messages": [{ "role": "user", "content": content }] }).into()
}
