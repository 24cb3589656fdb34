"""The service does what its OpenAPI document says, whatever is sent."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from data.builders import noise
from medseg.serve.answer import Answer
from serve.servers import JSON, Server, png

OPERATIONS = ("POST /v1/predict", "GET /v1/models", "GET /healthz", "GET /metrics")


@pytest.fixture(scope="session")
def described(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")


def test_the_document_names_every_option_and_refusal(server: Server) -> None:
    document = server.get("/openapi.json").json
    found = {f"{m.upper()} {path}" for path, each in document["paths"].items() for m in each}
    assert found == set(OPERATIONS)
    operation = document["paths"]["/v1/predict"]["post"]
    names = {each["name"] for each in operation["parameters"]}
    assert names == {"model", "threshold", "tta", "spacing"}
    refusals = {"400", "401", "406", "408", "413", "415", "422", "429", "500", "504"}
    assert refusals <= {*operation["responses"]}
    assert set(operation["responses"]["200"]["content"]) == {"image/png", "application/json"}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, GenerationMode.POSITIVE) for name in OPERATIONS),
        (OPERATIONS[0], GenerationMode.NEGATIVE),  # the others take nothing that could be wrong
    ],
)
def test_every_answer_is_as_the_document_says(
    described: Any, name: str, mode: GenerationMode
) -> None:
    method, path = name.split()
    operation = described[path][method]
    # Random bytes are a body that the document allows, and no image.
    random_is_refused = schemathesis.checks.CHECKS.get_one("positive_data_acceptance")

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=[random_is_refused])

    check()


def test_a_mask_in_json_has_the_form_that_is_documented(server: Server) -> None:
    reply = server.predict(png(noise(1, (9, 12))), "?model=organs&spacing=1", JSON)
    Answer.model_validate_json(reply.body, extra="forbid")
