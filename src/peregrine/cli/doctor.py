"""`peregrine doctor`."""

from typing import Any

from peregrine import catalog
from peregrine.cli import options, output


def command(json: options.Json = False) -> None:
    """Show what this machine has, what is missing, and what each format needs."""
    found = catalog.load("stage", "diagnose")()
    machine = found["host"]
    bf16 = "bfloat16 in hardware" if machine["bf16"] else "no bfloat16 in hardware, so training runs in fp32"
    output.line(f"{machine['processor']}, {machine['threads']} threads, {machine['memory_gib']} GiB, {bf16}")
    output.line(f"{machine['system']}, Python {machine['python']}")
    for said in _computing(found["computing"]):
        output.line(said)
    output.table(["library", "version"], [[name, version] for name, version in found["versions"].items()])
    for extra, state in found["extras"].items():
        if state["missing"]:
            output.line(f"missing {', '.join(state['missing'])}: pip install 'peregrine[{extra}]'")
    output.table(
        ["format", "here", "runtimes", "built from"],
        [
            [
                state["name"],
                f"needs peregrine[{', '.join(state['missing'])}]" if state["missing"] else "ready",
                ", ".join(state["runtimes"]),
                ", ".join(state["built_from"]),
            ]
            for state in found["formats"]
        ],
    )
    if json:
        output.as_json(found)


def _computing(found: dict[str, Any]) -> list[str]:
    """Where arrays and tables are computed, in one line, or two where that differs."""
    names = {"cpu": "the CPU", "cuda": found["gpu"], "none": "no device"}
    said = {kind: f"{names[found[kind]['device']]}: {found[kind]['reason']}" for kind in ("arrays", "tables")}
    if said["arrays"] == said["tables"]:
        return [f"arrays and tables on {said['arrays']}"]
    return [f"{kind} on {where}" for kind, where in said.items()]
