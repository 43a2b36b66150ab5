"""Requests made up from the OpenAPI document: whatever is sent, nothing here breaks."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from rag_app.config.sections import Config
from tests.server.conftest import Running, serving, wait_for


@pytest.fixture
def small(ingested: Config) -> Iterator[Running]:
    with serving(ingested) as server:
        yield server


def test_no_request_breaks_the_server(small: Running, request: pytest.FixtureRequest) -> None:
    slow = request.config.getoption("--slow")
    schema = schemathesis.openapi.from_url(f"{small.url}/openapi.json")
    found: Any = schema.get_all_operations()
    operations = [each.ok() for each in found]
    assert len(operations) > 15
    asked: dict[str, int] = {}

    for operation in operations:
        if operation.path.endswith("/events"):
            continue  # waits for a file

        @settings(
            max_examples=10_000 // len(operations) if slow else 12,
            deadline=None,
            derandomize=not slow,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            # Half of the way in: a collection that is there.
            for place in (case.body, case.path_parameters):
                for name in ("model", "knowledge_id", "vector_store_id"):
                    if isinstance(place, dict) and name in place:
                        place[name] = "rag_app"
            response = case.call(timeout=60)
            asked[str(response.status_code)] = asked.get(str(response.status_code), 0) + 1
            if case.operation.path != "/ready":
                assert response.status_code < 500, response.text

        ask()
    assert asked.get("200"), asked
    assert sum(asked.values()) > 100
    with small.http() as client:
        assert client.get("/health").status_code == 200
        wait_for(lambda: small.service.admission.in_flight == 0)
