"""Data sets from the Hugging Face hub to where a recipe's readers look for them. No torch here."""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.atomic import replacing, writing
from composer.errors import DataError, DiskFullError
from composer.recipe.data import SourceConfig

RECORD = "fetched.json"
"""Beside the folders of repositories: which commit of each is there, so that a further fetch takes the same."""

COMMIT = re.compile(r"[0-9a-f]{40}")
BRANCH = "main"


@dataclass(frozen=True)
class Repository:
    """A repository of data and the sources that are made of it. folder: where it goes, below `root`."""

    name: str
    revision: str
    root: Path
    folder: Path
    sources: tuple[SourceConfig, ...]

    @property
    def key(self) -> str:
        """What `RECORD` calls it: two revisions of one repository are two."""
        return f"{self.name}@{self.revision}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which cannot move."""
        return COMMIT.fullmatch(self.revision) is not None


def list_repositories(sources: Iterable[tuple[SourceConfig, str | None]]) -> tuple[list[Repository], list[str]]:
    """What is to be fetched for sources and their `data.root`, each repository once, and what cannot be fetched so.

    A repository goes as a whole into the folder of `root` in which its sources' files lie.
    """
    found: dict[tuple[str, str], Repository] = {}
    problems = []
    for source, root in sources:
        path = getattr(source.reader, "path", None)
        reason = _by_hand(source, root, path)
        if reason is not None:
            problems.append(f"{source.name}: {reason}")
            continue
        assert source.hub is not None
        assert root is not None
        revision = source.revision or BRANCH
        folder = _folder(root, str(path))
        before = found.get((source.hub, revision))
        if before is not None and before.folder != folder:
            problems.append(
                f"{source.name}: {source.hub} goes to {before.folder}, where {before.sources[0].name} is, and this "
                f"source's path is in {folder}: let both paths start with one folder"
            )
            continue
        owner = next((one for one in found.values() if one.folder == folder), None)
        if owner is not None and owner is not before:
            problems.append(
                f"{source.name}: {source.hub} ({revision}) goes to {folder}, as {owner.name} ({owner.revision}) does "
                f"for {owner.sources[0].name}, and would overwrite its files: let this source's path start with "
                "another folder"
            )
            continue
        earlier = () if before is None else before.sources
        found[source.hub, revision] = Repository(source.hub, revision, Path(root), folder, (*earlier, source))
    return list(found.values()), problems


def _folder(root: str, path: str) -> Path:
    """The folder in which a path below `root` starts. A path of one part is a folder too, or a file in `root` itself.

    A file's name ends in letters: `llava-1.5` is a folder's.
    """
    parts = Path(path).relative_to(root).parts
    alone = len(parts) == 1 and re.match(r"\.[a-zA-Z]", Path(path).suffix)
    return Path(root) if alone else Path(root, *parts[:1])


def _by_hand(source: SourceConfig, root: str | None, path: str | None) -> str | None:
    """Why a source's files are not fetched here, and what to do; None where they are."""
    place = f"put its files so that {path} is there"
    if source.note:
        place += f" (note: {source.note})"
    if source.hub is None:
        return f"data.sources.{source.name}.hub says nothing: name its repository, or {place}"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source.hub):
        return f"{source.hub} is not on the Hugging Face hub: download it by its own instructions, and {place}"
    if root is None or path is None:
        return "nothing says where it goes: state data.root, the folder that paths start from"
    if not Path(path).is_relative_to(root):
        return f"{path} is outside data.root, {root}: state it relative to data.root, or {place}"
    below = Path(path).relative_to(root)
    if any(sign in part for part in below.parts[:1] for sign in "*?["):
        return (
            f"its path, {below}, starts with a pattern, which names no folder to fetch {source.hub} to: let it start "
            f"with a folder, such as {source.name}/{below}"
        )
    return None


def known_commit(repository: Repository) -> str | None:
    """The commit to take, where that is known without asking the hub: the recipe's, else an earlier fetch's."""
    if repository.pinned:
        return repository.revision
    known = _record(repository.root).get(repository.key)
    return known["commit"] if known is not None else None


def fetch(repository: Repository) -> str:
    """Download the files that are missing of a repository, and return its commit. A further call goes on.

    Raises DataError for a repository that the hub does not give, DiskFullError where there is no room for it.
    """
    import huggingface_hub

    name = repository.name
    try:
        with writing(repository.folder):
            api = huggingface_hub.HfApi()
            commit = known_commit(repository) or api.dataset_info(name, revision=repository.revision).sha
            assert commit is not None
            entries = api.list_repo_tree(name, recursive=True, revision=commit, repo_type="dataset")
            sizes = {entry.path: int(entry.size) for entry in entries if hasattr(entry, "size")}
            _check_room(repository, sizes)
            _note(repository, commit, whole=False)
            huggingface_hub.snapshot_download(name, repo_type="dataset", revision=commit, local_dir=repository.folder)
    except (DataError, DiskFullError):
        raise
    # The client's errors are of the library that it talks HTTP with, which changes from release to release.
    except Exception as error:
        raise DataError(f"{name}: {_explained(error, repository)}") from error
    # Where the hub is out of reach on the way, the client calls what is there the snapshot.
    if missing := _missing(repository.folder, sizes):
        raise DataError(
            f"{name}: {len(missing):,} of {len(sizes):,} files are missing or of another size, such as {missing[0]}: "
            "the download was cut off; the same command goes on"
        )
    for rest in repository.folder.glob(".cache/huggingface/**/*.incomplete"):
        rest.unlink(missing_ok=True)  # of processes that were killed: the client goes on within a file no more
    _note(repository, commit, whole=True)
    return commit


def _missing(folder: Path, sizes: dict[str, int]) -> list[str]:
    def there(name: str, size: int) -> bool:
        path = folder / name
        return path.is_file() and path.stat().st_size == size

    return [name for name, size in sizes.items() if not there(name, size)]


def _check_room(repository: Repository, sizes: dict[str, int]) -> None:
    needed = sum(sizes[name] for name in _missing(repository.folder, sizes))
    place = next(path for path in (repository.folder, *repository.folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DiskFullError(
            f"{repository.name}: needs {needed / 2**30:,.1f} GiB in {repository.folder}, and {free / 2**30:,.1f} GiB "
            "are free there: make room, or put data.root on another disk. Nothing of it was fetched"
        )


def _record(root: Path) -> dict[str, dict[str, Any]]:
    path = root / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}): remove it to take the newest commits") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: got {type(found).__name__}, expected commits by repository: remove it")
    # Before, a repository was there by its name alone.
    return {key if "@" in key else f"{key}@{about['revision']}": about for key, about in found.items()}


def _note(repository: Repository, commit: str, whole: bool) -> None:
    about = {"revision": repository.revision, "commit": commit, "folder": str(repository.folder), "whole": whole}
    with replacing(repository.root / RECORD) as temporary:
        record = _record(repository.root) | {repository.key: about}
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _explained(error: Exception, repository: Repository) -> str:
    """What went wrong, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "access is on request: ask for it on its page, then log in (`hf auth login`, or the variable HF_TOKEN)"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {repository.revision!r}: correct data.sources.{repository.sources[0].name}.revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such data set, or a private one: correct `hub`, or log in (`hf auth login`)"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "the hub's client is offline: unset HF_HUB_OFFLINE"
    return f"{type(error).__name__}: {error}: what is there is kept; the same command goes on"
