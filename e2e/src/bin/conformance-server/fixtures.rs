//! What the suite expects to find on a server, read from `fixtures.json`.

use std::collections::HashMap;

use rmcp::model::{
    CallToolResult, ElicitRequestParams, GetPromptResult, InputRequests, Prompt,
    ReadResourceResult, Resource, ResourceTemplate, Tool,
};
use serde::Deserialize;

/// Everything the server can list or answer without thinking.
#[derive(Deserialize)]
pub(crate) struct Fixtures {
    pub(crate) tools: Vec<Tool>,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) resource_templates: Vec<ResourceTemplate>,
    /// The answers of tools that always say the same.
    pub(crate) tool_results: HashMap<String, CallToolResult>,
    /// What tools ask the user before they answer, in revisions with server requests.
    pub(crate) elicitations: HashMap<String, ElicitRequestParams>,
    /// Prompts that take no arguments.
    pub(crate) prompt_results: HashMap<String, GetPromptResult>,
    pub(crate) resource_results: HashMap<String, ReadResourceResult>,
    /// Tools and prompts that answer `input_required` first (2026-07-28).
    pub(crate) flows: HashMap<String, Flow>,
    /// What the task fixtures of the tasks extension ask for while they run.
    pub(crate) task_inputs: HashMap<String, InputRequests>,
}

/// A call that takes several rounds.
#[derive(Deserialize)]
pub(crate) struct Flow {
    /// What is asked in each round, by the key under which the answer comes back.
    pub(crate) rounds: Vec<InputRequests>,
    /// Whether the round travels with the client, as a sealed `requestState`.
    #[serde(default)]
    pub(crate) sealed: bool,
    /// The text of the answer at the end.
    pub(crate) answer: String,
}

impl Fixtures {
    /// # Errors
    /// If the file does not describe what this version of rmcp understands.
    pub(crate) fn load() -> Result<Self, serde_json::Error> {
        serde_json::from_str(include_str!("fixtures.json"))
    }
}
