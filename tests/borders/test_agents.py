"""The stubborn tools in agents' frameworks: the model is answered in time, and nothing is left where that can be had."""

import asyncio
import importlib
import os
import time
from typing import Any

import api.tool_bodies as bodies
import borders.marked as marked
import pytest

import calloff

LIMIT, GRACE, SLACK = 0.5, 0.5, 1.0
TOOLS = {tool.__name__: tool for tool in bodies.STUBBORN}
TOLD = " was called off: it did not end within 0.5 s. It "
every_tool = pytest.mark.parametrize("name", TOOLS)


def package(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip("runs in the environment of the group borders")


def limited(name):
    """In a process, so that programs which it starts die with it."""
    return calloff.tool(timeout=LIMIT, grace=GRACE, place="process")(TOOLS[name])


@pytest.fixture(autouse=True)
def programs():
    """The processes that the tools have started and that still run."""
    with marked.mark() as value:
        yield
        assert marked.running(value, b"sleep\x0061.25\x00") == []


async def answered(call, name):
    """The answer is the sentence; it comes in time; and nothing is left."""
    before = set(calloff.operations())
    began = time.monotonic()
    answer = str(await call)
    seconds = time.monotonic() - began
    assert f"{name}{TOLD}" in answer
    assert seconds < LIMIT + GRACE + 1 + SLACK + STARTING
    assert set(calloff.operations()) <= before
    assert marked.running(os.environ[marked.NAME], b"sleep\x0061.25\x00") == []


#: seconds that a worker and the framework may need to begin, on a busy machine
STARTING = 20.0


@every_tool
def test_pydantic_ai(name):
    package("pydantic_ai")
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    async def main():
        agent = Agent(TestModel())
        agent.tool_plain(limited(name))
        await answered(run(agent), name)

    async def run(agent):
        return (await agent.run("go")).output

    calloff.run(main())


def test_pydantic_ai_sees_the_schema_of_the_original():
    package("pydantic_ai")
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    model = TestModel()
    agent = Agent(model)
    agent.tool_plain(bodies.add)
    calloff.run(agent.run("go"))
    (tool,) = model.last_model_request_parameters.function_tools
    assert (tool.name, tool.description) == ("add", "Add two numbers.")
    assert set(tool.parameters_json_schema["properties"]) == {"a", "b"}
    assert tool.parameters_json_schema["properties"]["b"]["default"] == 2


def scripted(name, arguments="{}"):
    """A model that calls the tool, and ends with what the tool answered."""
    from agents.items import ModelResponse
    from agents.models.interface import Model
    from agents.usage import Usage
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    class Scripted(Model):
        async def get_response(self, system_instructions, input, *more, **named):
            said = [item for item in input if item.get("type") == "function_call_output"]
            if not said:
                output = ResponseFunctionToolCall(arguments=arguments, call_id="1", name=name, type="function_call")
            else:
                text = ResponseOutputText(annotations=[], text=str(said[0]["output"]), type="output_text")
                output = ResponseOutputMessage(
                    id="1", content=[text], role="assistant", status="completed", type="message"
                )
            return ModelResponse(output=[output], usage=Usage(), response_id=None)

        def stream_response(self, *more, **named):
            raise NotImplementedError

    return Scripted()


@every_tool
def test_openai_agents(name):
    package("agents")
    from agents import Agent, Runner, function_tool, set_tracing_disabled

    set_tracing_disabled(True)

    async def main():
        agent = Agent(name="a", tools=[function_tool(limited(name))], model=scripted(name))
        await answered(run(agent), name)

    async def run(agent):
        return (await Runner.run(agent, "go")).final_output

    calloff.run(main())


def test_openai_agents_sees_the_schema_of_the_original():
    package("agents")
    from agents import Agent, Runner, function_tool, set_tracing_disabled

    set_tracing_disabled(True)
    tool = function_tool(bodies.add)
    assert (tool.name, tool.description) == ("add", "Add two numbers.")
    assert set(tool.params_json_schema["properties"]) == {"a", "b"}

    async def main():
        agent = Agent(name="a", tools=[tool], model=scripted("add", '{"a": 1, "b": 4}'))
        assert (await Runner.run(agent, "go")).final_output == "5"

    calloff.run(main())


@every_tool
def test_langgraph(name):
    package("langgraph.graph")
    from langchain_core.messages import AIMessage
    from langchain_core.tools import StructuredTool
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    async def main():
        tool = StructuredTool.from_function(coroutine=limited(name))
        assert (tool.name, tool.description) == (name, TOOLS[name].__doc__)
        graph = StateGraph(MessagesState)
        graph.add_node("tools", ToolNode([tool]))
        graph.add_edge(START, "tools")
        graph.add_edge("tools", END)
        asks = AIMessage("", tool_calls=[{"name": name, "args": {}, "id": "1"}])
        await answered(run(graph.compile(), asks), name)

    async def run(graph, asks):
        return (await graph.ainvoke({"messages": [asks]}))["messages"][-1].content

    calloff.run(main())


@pytest.mark.parametrize("name", ["polite", "swallow", "cleanup", "block", "sync"])
def test_in_this_process_control_comes_back_all_the_same(name):
    """In a task or a thread, in turn with what else the program does."""
    package("pydantic_ai")
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    async def main():
        agent = Agent(TestModel())
        place: Any = "thread" if name == "sync" else "task"
        agent.tool_plain(calloff.tool(timeout=LIMIT, grace=GRACE, place=place)(TOOLS[name]))
        answer = (await agent.run("go")).output
        assert f"{name}{TOLD}" in answer
        assert ("still runs" in answer) == (name == "sync")  # which waits in C, where no exception arrives

    calloff.run(asyncio.wait_for(main(), 60))
