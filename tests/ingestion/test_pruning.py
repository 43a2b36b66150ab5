"""Only what was looked for and is gone may be deleted."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.ingestion.run import ingest
from rag_app.ingestion.verify import verify
from rag_app.load import load_config
from rag_app.milvus.stored_documents import list_documents
from tests.conftest import FakeEmbedder, make_files, ordinary_user

from .test_ingestion_changes import page

SMALL = {"chunking.size": 24, "chunking.overlap": 0}
FILES = {
    **{f"{number}.md": page(f"n{number}", 1) for number in range(6)},
    "share/s.md": page("s", 1),
    "share/deep/t.md": page("t", 1),
}


@pytest.fixture
def config(fake_embedder: FakeEmbedder, here: Path) -> Config:
    return load_config(overrides={"vector_store.uri": str(here / "prune.db"), **SMALL})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(tmp_path / "docs", FILES)


def paths(config: Config) -> list[str]:
    return [document.path for document in list_documents(config)]


def test_folder_that_may_not_be_read_protects_what_is_in_it(
    config: Config, folder: Path, fake_embedder: FakeEmbedder
) -> None:
    ingest(config, [folder])  # imports what an ordinary user may not be allowed to read
    with ordinary_user() as home:
        folder = make_files(home / "docs", FILES)
        config = load_config(overrides={"vector_store.uri": str(home / "a.db"), **SMALL})
        ingest(config, [folder])
        (folder / "0.md").unlink()
        for mode in (0, 0o400, 0o100):
            (folder / "share").chmod(mode)
            report = ingest(config, [folder], prune=True)
            assert set(report.removed) <= {"0.md"}
            if mode != 0o100:  # with x alone what is in it can be looked for by name
                assert report.protected == ("share/deep/t.md", "share/s.md")
                assert any(f"{folder}/share" in note for note in report.notes)
            repaired = verify(config, repair=True)
            assert repaired.documents == 7
        (folder / "share").chmod(0o700)
        assert len(ingest(config, [folder]).unchanged) == 7


def test_folder_that_fails_to_be_listed_protects_what_is_in_it(
    config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(config, [folder])
    shutil.rmtree(folder / "share/deep")
    list_folder = os.listdir

    def fail(path: Path) -> list[str]:
        if Path(path).name == "share":
            raise OSError(116, "Stale file handle")
        return list_folder(path)

    monkeypatch.setattr(os, "listdir", fail)
    report = ingest(config, [folder], prune=True)
    assert report.protected == ("share/deep/t.md", "share/s.md")
    assert [skip.reason for skip in report.skipped] == ["unreadable: Stale file handle"]
    assert verify(config, repair=True).documents == 8


def test_share_behind_a_link_that_is_not_mounted(config: Config, folder: Path) -> None:
    away = folder.parent / "mount"
    (folder / "share").rename(away)
    (folder / "share").symlink_to(away)
    followed = config.model_copy(
        update={"documents": config.documents.model_copy(update={"follow_links": True})}
    )
    ingest(followed, [folder])
    shutil.move(away, folder.parent / "elsewhere")
    report = ingest(followed, [folder], prune=True)  # the link dangles
    assert report.protected == ("share/deep/t.md", "share/s.md")
    away.mkdir()
    report = ingest(followed, [folder], prune=True)  # the place to mount it is empty
    assert report.protected == ("share/deep/t.md", "share/s.md")
    assert any("unmounted share" in note for note in report.notes)
    assert verify(followed, repair=True).documents == 8
    report = ingest(config, [folder], prune=True)  # links out of the folder are not followed
    assert report.protected == ("share/deep/t.md", "share/s.md")


def test_empty_folder_may_be_where_a_share_was_mounted(
    config: Config, folder: Path, run: Callable[..., Result]
) -> None:
    make_files(folder, {"drafts/idea.md": page("idea", 1)})
    ingest(config, [folder])
    shutil.rmtree(folder / "share")
    make_files(folder, {"share/.nomount": ""})
    (folder / "drafts/idea.md").unlink()  # the one document of its folder
    (folder / "0.md").unlink()
    for confirm in (None, lambda _: False):
        report = ingest(config, [folder], prune=True, confirm=confirm)
        assert set(report.removed) <= {"0.md", "drafts/idea.md"}
        assert report.protected == ("share/deep/t.md", "share/s.md")
        (note,) = [note for note in report.notes if f"{folder}/share" in note]
        assert "--prune --yes" in note
    repaired = verify(config, repair=True)
    assert {problem.kind for problem in repaired.problems} == {"unseen"}
    assert f"rag-app ingest {folder}/share --prune --yes" in repaired.problems[0].detail
    assert repaired.documents == 7
    settings = [p for k, v in SMALL.items() for p in ("--set", f"{k}={v}")]
    settings += ["--set", f"vector_store.uri={config.vector_store.uri}"]
    result = run("ingest", f"{folder}/share", "--prune", *settings)
    assert "2 out of sight" in result.stdout
    result = run("ingest", f"{folder}/share", "--prune", "--yes", *settings)
    assert "2 removed" in result.stdout
    assert paths(config) == [f"{number}.md" for number in range(1, 6)]


def test_folder_emptied_into_another_is_no_lost_share(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    shutil.move(folder / "share/deep/t.md", folder / "t.md")
    shutil.move(folder / "share/s.md", folder / "s.md")
    (folder / "share/deep").rmdir()
    report = ingest(config, [folder], prune=True)
    assert report.removed == ("share/deep/t.md", "share/s.md")
    assert report.protected == ()


def test_root_that_is_away_protects_its_documents(config: Config, folder: Path) -> None:
    ingest(config, [folder / "share"])
    make_files(folder.parent, {"other.md": page("other", 1)})
    shutil.move(folder, folder.parent.parent / "away")
    report = ingest(config, [folder.parent], prune=True)
    assert report.protected == ("deep/t.md", "s.md")
    assert any(f"{folder}/share: the folder is not there" in note for note in report.notes)
    assert len(paths(config)) == 3


def test_what_is_gone_is_deleted_and_what_is_left_out_too(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    shutil.rmtree(folder / "share")
    report = ingest(config, [folder], prune=True)
    assert report.removed == ("share/deep/t.md", "share/s.md")
    assert report.protected == ()
    without = config.model_copy(
        update={"documents": config.documents.model_copy(update={"exclude": ["5.md"]})}
    )
    assert ingest(without, [folder], prune=True).removed == ("5.md",)


def test_pruning_most_of_a_folder_wants_to_be_confirmed(
    config: Config, folder: Path, run: Callable[..., Result]
) -> None:
    ingest(config, [folder])
    for number in range(5):
        (folder / f"{number}.md").unlink()
    make_files(folder, {"new.md": page("new", 1)})
    with pytest.raises(InputError, match=f"5 of the 8 documents of {folder}") as caught:
        ingest(config, [folder], prune=True)
    assert "--yes" in caught.value.remedy
    assert len(paths(config)) == 8
    assert any(
        "has to be confirmed" in n for n in ingest(config, [folder], prune=True, dry_run=True).notes
    )
    asked: list[str] = []

    def refuse(much: str) -> bool:
        asked.append(much)
        return False

    report = ingest(config, [folder], prune=True, confirm=refuse)
    assert (len(asked), report.new, report.removed, report.pruned) == (1, ("new.md",), (), False)
    assert len(report.gone) == 5
    settings = [p for k, v in SMALL.items() for p in ("--set", f"{k}={v}")]
    settings += ["--set", f"vector_store.uri={config.vector_store.uri}"]
    result = run("ingest", str(folder), "--prune", *settings)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    result = run("ingest", str(folder), *settings)
    assert "5 gone (delete with --prune)" in result.stdout
    result = run("ingest", str(folder), "--prune", "--yes", *settings)
    assert result.exit_code == 0
    assert "5 removed" in result.stdout
    assert "gone" not in result.stdout
    assert len(paths(config)) == 4


def test_renamed_files_are_not_lost(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    for number in range(6):
        (folder / f"{number}.md").rename(folder / f"renamed{number}.md")
    assert len(ingest(config, [folder], prune=True).removed) == 6


def test_verify_repairs_no_emptied_folder(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    for number in range(5):
        (folder / f"{number}.md").unlink()
    report = verify(config, repair=True)
    assert {(problem.kind, problem.repaired) for problem in report.problems} == {
        ("orphaned", False)
    }
    assert f"5 of 8 in {folder}" in report.problems[0].detail
    assert report.documents == 8
