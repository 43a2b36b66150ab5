"""The table of index types: what will not work is refused by name, and told what will."""

from typing import Any

import pytest

from rag_app.config.index_checks import dimension_fault, server_fault
from rag_app.config.index_types import INDEX_TYPES, METRICS, Index, build_params, search_params
from rag_app.errors import ConfigError
from tests.conftest import MakeConfig

SERVER = {"vector_store__uri": "http://127.0.0.1:19530"}
LITE = ["FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ", "AUTOINDEX"]


def test_table_is_whole() -> None:
    for name, kind in INDEX_TYPES.items():
        assert kind.lite is (name in LITE)
        assert set(kind.metrics) <= set(METRICS)
        for param in (*kind.params, *kind.search_params):
            assert "docs" in param.source
            assert param.default is None or param.accepts(param.default), param.name


@pytest.mark.parametrize("name", [name for name in INDEX_TYPES if name not in LITE])
def test_what_lite_does_not_build_is_refused_by_name(name: str, make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=rf"index\.type = {name} .*not built by Milvus Lite") as e:
        make_config(index__type=name)
    assert f"one of {', '.join(LITE)}" in e.value.remedy
    metric = INDEX_TYPES[name].metrics[0]
    assert make_config(index__type=name, index__metric=metric, **SERVER).index.type == name


@pytest.mark.parametrize("name", INDEX_TYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_metrics_that_a_type_does_not_know_are_refused(
    name: str, metric: str, make_config: MakeConfig
) -> None:
    overrides = {"index__type": name, "index__metric": metric, **SERVER}
    if metric in INDEX_TYPES[name].metrics:
        assert make_config(**overrides).index.metric == metric
        return
    with pytest.raises(ConfigError, match=rf"index\.metric = {metric} .*not a metric of {name}"):
        make_config(**overrides)


@pytest.mark.parametrize(
    ("overrides", "message", "remedy"),
    [
        ({"type": "HNSW", "params": {"M": 1}}, "M = 1", "from 2 to 2048"),
        ({"type": "HNSW", "params": {"M": 2049}}, "M = 2049", "from 2 to 2048"),
        ({"type": "HNSW", "params": {"M": 16.5}}, "M = 16.5", "a whole number"),
        ({"type": "HNSW", "params": {"M": True}}, "M = True", "a whole number"),
        ({"type": "HNSW", "params": {"M": "16"}}, "M = '16'", "a whole number"),
        ({"type": "HNSW", "params": {"nlist": 16}}, "'nlist', which HNSW", "use M (a whole"),
        ({"type": "FLAT", "params": {"M": 16}}, "'M', which FLAT", "leave index.params out"),
        ({"type": "IVF_FLAT", "params": {"nlist": 65_537}}, "nlist = 65537", "to 65536"),
        ({"type": "IVF_FLAT", "search_params": {"nprobe": 0}}, "nprobe = 0", "from 1"),
        (
            {"type": "IVF_FLAT", "params": {"nlist": 8}, "search_params": {"nprobe": 9}},
            "nprobe = 9, more than nlist = 8",
            "index.search_params.nprobe to at most 8",
        ),
        ({"type": "HNSW", "search_params": {"ef": 4}}, "similarity_top_k = 5", "at least 5"),
        ({"type": "AUTOINDEX", "search_params": {"level": 2}}, "'level'", "use ef"),
        ({"type": "HNSW_SQ", "params": {"sq_type": "SQ6"}}, "HNSW_SQ on Milvus Lite", "use M"),
        ({"type": "HNSW_SQ", "search_params": {"refine_k": 2}}, "'refine_k'", "use ef"),
    ],
)
def test_parameters_that_will_not_work_are_refused(
    overrides: dict[str, Any], message: str, remedy: str, make_config: MakeConfig
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(**{f"index__{key}": value for key, value in overrides.items()})
    assert message in caught.value.message
    assert "(command line)" in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("overrides", "message", "remedy"),
    [
        ({"type": "HNSW_SQ", "params": {"sq_type": "SQ9"}}, "sq_type = 'SQ9'", '"SQ6" or "SQ8"'),
        ({"type": "HNSW_SQ", "params": {"refine": 1}}, "refine = 1", "true or false"),
        ({"type": "HNSW_SQ", "search_params": {"refine_k": 0.5}}, "refine_k = 0.5", "from 1"),
        ({"type": "IVF_PQ", "params": {"nbits": 25}}, "nbits = 25", "from 1 to 24"),
        ({"type": "SCANN", "search_params": {"reorder_k": 3}}, "reorder_k = 3", "at least 5"),
        ({"type": "DISKANN", "search_params": {"search_list": 4}}, "search_list = 4", "at least 5"),
        (
            {"type": "GPU_CAGRA", "metric": "IP", "params": {"graph_degree": 128}},
            "not less than intermediate_graph_degree = 128",
            "graph_degree to less than 128",
        ),
    ],
)
def test_what_only_a_server_knows_has_ranges_too(
    overrides: dict[str, Any], message: str, remedy: str, make_config: MakeConfig
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(**SERVER, **{f"index__{key}": value for key, value in overrides.items()})
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_gpu_types_find_only_so_many(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="at most 1024 neighbours") as caught:
        make_config(
            index__type="GPU_CAGRA", index__metric="IP", retrieval__similarity_top_k=1025, **SERVER
        )
    assert "similarity_top_k to at most 1024" in caught.value.remedy


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        ("v2.6.0", []),
        ("2.5.3", []),
        ("master-20260101-abcdef", []),
        ("v2.4.9", ["HNSW_SQ"]),
        ("v2.3.21", ["HNSW_SQ", "GPU_CAGRA", "GPU_BRUTE_FORCE"]),
        ("v2.3.5-lite", ["HNSW_SQ", "DISKANN", *(n for n in INDEX_TYPES if n.startswith("GPU"))]),
    ],
)
def test_what_a_server_is_too_old_for_is_refused(version: str, refused: list[str]) -> None:
    for name in INDEX_TYPES:
        fault = server_fault(name, version)
        assert (fault is not None) is (name in refused), name
        if fault is not None:
            assert version in fault.reason
            assert name not in fault.remedy.split(": ")[-1].split("one of ")[1].split(", ")


def test_m_of_ivf_pq_divides_the_dimension() -> None:
    assert dimension_fault({"m": 8}, 384) is None
    assert dimension_fault({"m": 0}, 7) is None
    fault = dimension_fault({"m": 7}, 12)
    assert fault is not None
    assert "m = 7" in fault.reason
    assert "one of 1, 2, 3, 4, 6, 12" in fault.remedy


def test_defaults_are_put_in() -> None:
    assert build_params("HNSW", {"M": 8}, lite=True) == {"M": 8, "efConstruction": 200}
    assert build_params("SCANN", {}, lite=False) == {"with_raw_data": True}
    assert build_params("SCANN", {"nlist": 7}, lite=False) == {"nlist": 7, "with_raw_data": True}
    assert build_params("HNSW_SQ", {}, lite=False) == {"M": 16, "efConstruction": 200}


@pytest.mark.parametrize(
    ("rows", "nlist"), [(0, 128), (1, 1), (9, 9), (158, 50), (10_000, 400), (10**9, 65_536)]
)
def test_clusters_follow_the_number_of_rows_unless_configured(rows: int, nlist: int) -> None:
    params = build_params("IVF_PQ", {}, lite=False)
    assert Index("IVF_PQ", "L2", params).for_rows(rows).params == {**params, "nlist": nlist}
    configured = Index("IVF_FLAT", "L2", {"nlist": 12})
    assert configured.for_rows(rows) == configured
    assert Index("HNSW", "L2", {"M": 8}).for_rows(rows).params == {"M": 8}


def test_what_is_not_asked_for_is_no_change() -> None:
    built = Index("IVF_FLAT", "COSINE", {"nlist": 50})
    assert built.changes(Index("IVF_FLAT", "COSINE")) == ()
    assert built.changes(Index("IVF_FLAT", "L2", {"nlist": 9})) == (
        "metric COSINE → L2",
        "nlist 50 → 9",
    )
    assert built.changes(Index("FLAT", "COSINE")) == ("type IVF_FLAT → FLAT",)


def test_search_parameters_fit_what_is_asked_for() -> None:
    hnsw, ivf = Index("HNSW", "COSINE"), Index("IVF_FLAT", "COSINE", {"nlist": 4})
    assert search_params(hnsw, {}, 5) == {"ef": 64}
    assert search_params(hnsw, {"ef": 32}, 50) == {"ef": 50}
    assert search_params(ivf, {}, 5) == {"nprobe": 4}
    assert search_params(ivf, {"ef": 9}, 5) == {"nprobe": 4}  # of the configured type, not this one
