//! The tools of the suite's scenarios for the tasks extension.

use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult,
    InputRequests, JsonObject,
};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use serde_json::Value;
use tokio::task::JoinSet;

/// Whether a tool belongs here.
pub(crate) fn is_fixture(name: &str) -> bool {
    name == "greet" || SUPPORT_TASKS.contains(&name)
}

/// Calls one: as a task if the client can have one, else at once.
///
/// # Errors
/// As the tool's scenario wants them; `-32021` for a tool that only runs as a task.
pub(crate) async fn call(
    tasks: &TaskManager,
    asks: InputRequests,
    name: &str,
    arguments: &JsonObject,
    can_have_task: bool,
) -> Result<CallToolResponse, ErrorData> {
    if NEED_TASKS.contains(&name) && !can_have_task {
        let required = ClientCapabilities::builder().enable_tasks().build();
        return Err(ErrorData::missing_required_client_capability(required));
    }
    let job = Job {
        name: name.to_owned(),
        seconds: arguments
            .get("seconds")
            .and_then(Value::as_f64)
            .unwrap_or(1.0),
        whom: arguments
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        arguments: Value::Object(arguments.clone()).to_string(),
        asks,
    };
    if can_have_task && SUPPORT_TASKS.contains(&name) {
        let task = tasks.spawn(TaskOptions::default(), move |task| {
            Box::pin(async move { job.run_as_task(task).await })
        });
        return Ok(CreateTaskResult::new(task).into());
    }
    Ok(job.run()?.into())
}

struct Job {
    name: String,
    seconds: f64,
    whom: String,
    /// As they came, to show that what was gathered beforehand got here.
    arguments: String,
    asks: InputRequests,
}

impl Job {
    async fn run_as_task(self, task: TaskContext) -> Result<CallToolResult, TaskExit> {
        // All are asked before any is waited for, so that the client sees them together.
        let mut answers = JoinSet::new();
        for (key, request) in self.asks.clone() {
            let task = task.clone();
            answers.spawn(async move { task.request_input(key, request).await });
        }
        let mut given = Vec::new();
        while let Some(answer) = answers.join_next().await {
            let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None));
            given.push(answer??.to_string());
        }
        let cancelled = task.cancelled();
        tokio::select! {
            // Either branch can be dropped: neither has taken anything from anywhere.
            () = cancelled => Err(TaskExit::Cancelled),
            result = self.work() => result
                .map(|mut result| {
                    result.content.extend(given.into_iter().map(ContentBlock::text));
                    result
                })
                .map_err(TaskExit::Error),
        }
    }

    /// As a task it takes the time that it was told, so that it is seen working. Without one, whoever calls
    /// would only wait.
    async fn work(&self) -> Result<CallToolResult, ErrorData> {
        if self.name == "slow_compute" {
            tokio::time::sleep(Duration::from_secs_f64(self.seconds)).await;
        }
        self.run()
    }

    fn run(&self) -> Result<CallToolResult, ErrorData> {
        match self.name.as_str() {
            "greet" => return Ok(text(format!("Hello, {}!", self.whom))),
            "failing_job" => {
                return Ok(CallToolResult::error(vec![ContentBlock::text(
                    "failed as asked",
                )]));
            }
            "protocol_error_job" => return Err(ErrorData::internal_error("failed as asked", None)),
            _ => {}
        }
        Ok(text(format!(
            "{} is done with {}",
            self.name, self.arguments
        )))
    }
}

fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

/// Tools that may run as a task.
const SUPPORT_TASKS: [&str; 6] = [
    "slow_compute",
    "failing_job",
    "protocol_error_job",
    "confirm_delete",
    "multi_input",
    "test_tool_with_task",
];

/// Tools that cannot run otherwise.
const NEED_TASKS: [&str; 4] = [
    "failing_job",
    "confirm_delete",
    "multi_input",
    "test_tool_with_task",
];
