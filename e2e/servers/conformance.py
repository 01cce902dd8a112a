"""What the official conformance suite expects to find, on the official Python SDK: 2025-11-25 in sessions, and
2026-07-28 without.

Prints one line that says where it listens. With the argument `sse` it speaks HTTP+SSE, with `stdio` it
listens nowhere.
"""

import json
import re
import sys
from pathlib import Path

import anyio
import mcp.types as types
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp.types.jsonrpc import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route
from streams import Events, listen

FIXTURES = json.loads((Path(__file__).parent / "../src/bin/conformance-server/fixtures.json").read_text())
NAME = "e2e-python-conformance"
CACHEABLE = (
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "server/discover",
    "tools/list",
)

# What is asked, what comes back, and the capability that lets it be asked.
QUESTIONS = {
    "elicitation/create": (types.ElicitRequest, types.ElicitResult, "elicitation"),
    "sampling/createMessage": (types.CreateMessageRequest, types.CreateMessageResult, "sampling"),
    "roots/list": (types.ListRootsRequest, types.ListRootsResult, "roots"),
}

listeners = InMemorySubscriptionBus()
sessions = []


def complete(**members):
    """A result; the SDK leaves its type out where the revision has none."""
    return {"resultType": "complete", **members}


def text(value):
    return complete(content=[{"type": "text", "text": value}])


def prompt(value):
    return complete(messages=[{"role": "user", "content": {"type": "text", "text": value}}])


def invalid(message):
    return MCPError(INVALID_PARAMS, message)


def is_modern(context):
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS


def allowed(questions, context):
    """Only what the client says it can answer may be asked."""
    capabilities = context.session.client_capabilities
    return {
        key: question
        for key, question in questions.items()
        if getattr(capabilities, QUESTIONS[question["method"]][2], None) is not None
    }


async def answers_in_session(questions, context):
    """Asks by requests, all at once."""
    answers = {}

    async def ask(key, question):
        request, result, _ = QUESTIONS[question["method"]]
        related = ServerMessageMetadata(related_request_id=context.request_id)
        answers[key] = await context.session.send_request(request.model_validate(question), result, metadata=related)

    async with anyio.create_task_group() as asking:
        for key, question in questions.items():
            asking.start_soon(ask, key, question)
    return answers


async def ask(flow, context, params):
    """Asks round after round, and says then what is made of the answers."""
    rounds = flow["rounds"]
    if not is_modern(context):
        answers = {}
        for questions in rounds:
            answers = await answers_in_session(allowed(questions, context), context)
        return flow["finish"](answers)
    state, answers = params.request_state, params.input_responses or {}
    at = json.loads(state)["round"] if state is not None else 0
    # A flow that seals its state starts anew without it, whatever else came.
    is_fresh = flow.get("sealed", False) and state is None
    if not is_fresh and all(key in answers for key in allowed(rounds[at], context)):
        at += 1
    if at == len(rounds):
        return flow["finish"](answers)
    questions = allowed(rounds[at], context)
    if not questions:
        return flow["finish"]({})
    asks = {"resultType": "input_required", "inputRequests": questions}
    # What seals it stands between us and the client.
    return asks | {"requestState": json.dumps({"round": at})} if flow.get("sealed") else asks


def flow_of(name, wrap, arguments):
    """What a tool or prompt asks before it answers, if it does."""
    if flow := FIXTURES["flows"].get(name):
        shown = lambda answers: {key: answer.model_dump(mode="json") for key, answer in answers.items()}
        return flow | {"finish": lambda answers: wrap(f"{flow['answer']} {json.dumps(shown(answers))}")}

    def one(method, params, finish):
        rounds = [{"answer": {"method": method, "params": params}}]
        return {"rounds": rounds, "finish": lambda answers: finish(answers.get("answer"))}

    if name == "test_sampling":
        content = {"type": "text", "text": arguments["prompt"]}
        params = {"messages": [{"role": "user", "content": content}], "maxTokens": 100}
        said = lambda answer: text(f"LLM response: {answer.content.text if answer else None}")
        return one("sampling/createMessage", params, said)
    if asked := FIXTURES["elicitations"].get(name):
        params = asked | {"message": arguments.get("message", asked["message"])}
        said = lambda answer: text(
            f"User response: action={answer and answer.action}, content={json.dumps(answer and answer.content)}"
        )
        return one("elicitation/create", params, said)
    return None


async def log(context, *lines):
    for line in lines:
        await context.session.send_log_message("info", line, related_request_id=context.request_id)
    return text("The log was written")


async def report_progress(context, _arguments):
    for progress in (0, 50, 100):
        await context.session.report_progress(progress, 100, f"Completed step {progress} of 100")
        # The TypeScript SDK's clients lose progress that comes in one read with the response.
        await anyio.sleep(0.02)
    return text("Progress was reported")


async def come_back(context, _arguments):
    if context.close_sse_stream:
        await context.close_sse_stream()
    await anyio.sleep(1)
    return text("The client came back")


async def need_sampling(context, _arguments):
    if context.session.client_capabilities and context.session.client_capabilities.sampling:
        return text("The capability is there")
    required = {"requiredCapabilities": {"sampling": {}}}
    raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "sampling is needed", required)


async def greet(_context, arguments):
    return text(f"Hello, {arguments['name']}!")


async def change(event, notify):
    """Tells everybody that a list changed."""
    await listeners.publish(event)
    for session in list(sessions):
        try:
            await notify(session)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            sessions.remove(session)
    return text("The list changed")


TOOLS = {
    "test_tool_with_logging": lambda context, _: log(context, "started", "processing", "completed"),
    "test_logging_tool": lambda context, _: log(context, "a level was asked for"),
    "test_tool_with_progress": report_progress,
    "test_reconnection": come_back,
    "test_missing_capability": need_sampling,
    "test_trigger_tool_change": lambda *_: change(ToolsListChanged(), lambda to: to.send_tool_list_changed()),
    "test_trigger_prompt_change": lambda *_: change(PromptsListChanged(), lambda to: to.send_prompt_list_changed()),
    "greet": greet,
}


async def call_tool(context, params):
    name, arguments = params.name, params.arguments or {}
    if flow := flow_of(name, text, arguments):
        return await ask(flow, context, params)
    if result := FIXTURES["tool_results"].get(name):
        return result
    if tool := TOOLS.get(name):
        return await tool(context, arguments)
    # The others show that the arguments arrive. What the suite wants to be a task is none: the SDK has no tasks.
    if any(tool["name"] == name for tool in FIXTURES["tools"]):
        return text(json.dumps(arguments))
    raise invalid(f"no tool {name}")


async def get_prompt(context, params):
    name, arguments = params.name, params.arguments or {}
    if flow := flow_of(name, prompt, arguments):
        return await ask(flow, context, params)
    if name == "test_prompt_with_arguments":
        return prompt(f"Prompt with arguments: arg1='{arguments['arg1']}', arg2='{arguments['arg2']}'")
    if result := FIXTURES["prompt_results"].get(name):
        return result
    raise invalid(f"no prompt {name}")


async def read_resource(_context, params):
    if result := FIXTURES["resource_results"].get(params.uri):
        return result
    if found := re.fullmatch("test://template/(.*)/data", params.uri):
        data = {"id": found[1], "templateTest": True, "data": f"Data for ID: {found[1]}"}
        contents = {"uri": params.uri, "mimeType": "application/json", "text": json.dumps(data)}
        return complete(contents=[contents])
    raise MCPError(INVALID_PARAMS, f"no resource {params.uri}", {"uri": params.uri})


async def continue_argument(_context, params):
    begun = params.argument.value
    return complete(completion={"values": [f"{begun}aris", f"{begun}ark"]})


async def remember(context, _params):
    sessions.append(context.session)


async def nothing(_context, _params):
    return types.EmptyResult()


def always(**members):
    async def answer(_context, _params):
        return complete(**members)

    return answer


server = Server(
    NAME,
    version="1.0.0",
    cache_hints={method: CacheHint(ttl_ms=60_000, scope="public") for method in CACHEABLE},
    get_tool_input_schema=lambda name: next(
        (tool["inputSchema"] for tool in FIXTURES["tools"] if tool["name"] == name), None
    ),
    on_list_tools=always(tools=FIXTURES["tools"]),
    on_call_tool=call_tool,
    on_list_resources=always(resources=FIXTURES["resources"]),
    on_list_resource_templates=always(resourceTemplates=FIXTURES["resource_templates"]),
    on_read_resource=read_resource,
    on_subscribe_resource=nothing,
    on_unsubscribe_resource=nothing,
    on_subscriptions_listen=ListenHandler(listeners),
    on_list_prompts=always(prompts=FIXTURES["prompts"]),
    on_get_prompt=get_prompt,
    on_completion=continue_argument,
    on_set_logging_level=nothing,
)
server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
server.add_notification_handler("notifications/initialized", types.NotificationParams, remember)


def options():
    changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
    return server.create_initialization_options(changes)


async def on_stdio():
    async with stdio_server() as (read, write):
        await server.run(read, write, options())


def sse_app():
    transport = SseServerTransport("/messages/")

    async def connect(request):
        async with transport.connect_sse(request.scope, request.receive, request._send) as (read, write):
            await server.run(read, write, options())
        return Response()

    return Starlette(routes=[Route("/sse", connect), Mount("/messages/", transport.handle_post_message)])


match sys.argv[1:]:
    case ["sse"]:
        listen(sse_app(), "/sse")
    case ["stdio"]:
        anyio.run(on_stdio)
    case _:
        listen(server.streamable_http_app(event_store=Events(), retry_interval=500), "/mcp")
