"""Download of a recipe's data sets from the Hugging Face hub. Does not import torch."""

import glob
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from composer.atomic import check_writable, replacing, writing
from composer.errors import DataError, DiskFullError
from composer.recipe.data import SourceConfig

RECORD = "fetched.json"
"""File next to the folders of repositories: the commit of each, so that the next fetch takes the same one."""

COMMIT = re.compile(r"[0-9a-f]{40}")
BRANCH = "main"


class Download(TypedDict):
    """Record of a repository's last download."""

    revision: str
    commit: str
    folder: str
    whole: bool


@dataclass(frozen=True)
class Repository:
    """Data set repository of the hub.

    Attributes:
        name: "owner/name" on the hub.
        revision: Branch, tag or commit.
        root: `data.root` of the recipe.
        folder: Destination, a folder in `root` or `root` itself.
        sources: Sources of the recipe that are stored in the repository.
    """

    name: str
    revision: str
    root: Path
    folder: Path
    sources: tuple[SourceConfig, ...]

    @property
    def key(self) -> str:
        """Key in `RECORD`. Two revisions of a repository are separate."""
        return f"{self.name}@{self.revision}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which cannot change."""
        return COMMIT.fullmatch(self.revision) is not None


def fetch(
    sources: Iterable[tuple[SourceConfig, str | None]],
    *,
    dry_run: bool = False,
    log: Callable[[str], object] = lambda line: None,
) -> list[str]:
    """Download the repositories of sources from the Hugging Face hub.

    Continues with the next repository if one cannot be downloaded.

    Args:
        sources: Sources of a recipe, each with its `data.root`.
        dry_run: Whether to only log what would be downloaded.
        log: Called with each line to print.

    Returns:
        Problems: what cannot be downloaded, and what to do.

    Raises:
        DiskFullError: If a repository does not fit on the disk.
    """
    repositories, problems = list_repositories(sources)
    for repository in repositories:
        names = ", ".join(source.name for source in repository.sources)
        commit = known_commit(repository)
        which = repository.revision if commit in (None, repository.revision) else f"{repository.revision} = {commit}"
        log(f"{repository.name} ({which}) -> {repository.folder}: {names}")
        if dry_run:
            continue
        check_writable(repository.root / RECORD)
        try:
            commit = fetch_repository(repository)
        except DataError as error:
            problems.append(str(error))
            continue
        for line in _remarks(repository, commit):
            log(f"  {line}")
    return problems


def _remarks(repository: Repository, commit: str) -> Iterator[str]:
    """Describe what the user should know about a downloaded repository."""
    if not repository.pinned:
        yield (
            f"{repository.revision!r} can change: commit {commit} was downloaded, and is recorded in "
            f"{repository.root / RECORD}; to pin it in the recipe, set `revision` to it"
        )
    for source in repository.sources:
        path = getattr(source.reader, "path", None)
        if path is not None and not (Path(path).exists() or glob.glob(path, recursive=True)):
            note = f" ({source.note})" if source.note else ""
            yield f"{source.name}: {path} is not among the downloaded files: create it from them{note}"


def list_repositories(sources: Iterable[tuple[SourceConfig, str | None]]) -> tuple[list[Repository], list[str]]:
    """List the repositories that contain sources, each once.

    A repository is downloaded completely, to the folder of `data.root` in which its sources' paths start.

    Args:
        sources: Sources of a recipe, each with its `data.root`.

    Returns:
        The repositories; and why other sources cannot be downloaded, with what to do.
    """
    repositories: dict[tuple[str, str], Repository] = {}
    problems = []
    for source, root in sources:
        path = getattr(source.reader, "path", None)
        reason = _manual_reason(source, root, path)
        if reason is not None:
            problems.append(f"{source.name}: {reason}")
            continue
        assert source.hub is not None
        assert root is not None
        revision = source.revision or BRANCH
        folder = _folder(root, str(path))
        same = repositories.get((source.hub, revision))
        if same is not None and same.folder != folder:
            problems.append(
                f"{source.name}: {source.hub} is downloaded to {same.folder} for {same.sources[0].name}, but the path "
                f"of this source is in {folder}: let both paths start with the same folder"
            )
            continue
        owner = next((one for one in repositories.values() if one.folder == folder), None)
        if owner is not None and owner is not same:
            problems.append(
                f"{source.name}: {source.hub} ({revision}) would overwrite files in {folder}, the folder of "
                f"{owner.name} ({owner.revision}) for {owner.sources[0].name}: let the path of this source start with "
                "a different folder"
            )
            continue
        earlier = () if same is None else same.sources
        repositories[source.hub, revision] = Repository(source.hub, revision, Path(root), folder, (*earlier, source))
    return list(repositories.values()), problems


def _folder(root: str, path: str) -> Path:
    """Return the folder of `root` in which a path starts; `root` itself for a file directly in it.

    The extension of a file starts with a letter, so `llava-1.5` is a folder.
    """
    parts = Path(path).relative_to(root).parts
    alone = len(parts) == 1 and re.match(r"\.[a-zA-Z]", Path(path).suffix)
    return Path(root) if alone else Path(root, *parts[:1])


def _manual_reason(source: SourceConfig, root: str | None, path: str | None) -> str | None:
    """Explain why a source cannot be downloaded automatically, and what to do; None if it can."""
    place = f"put its files at {path}"
    if source.note:
        place += f" (note: {source.note})"
    if source.hub is None:
        return f"data.sources.{source.name}.hub is not set: name its repository, or {place}"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source.hub):
        return f"{source.hub} is not on the Hugging Face hub: download it as its page describes, and {place}"
    if root is None or path is None:
        return "data.root is not set: set it to the folder for downloads"
    if not Path(path).is_relative_to(root):
        return f"{path} is outside data.root, {root}: make it relative to data.root, or {place}"
    below = Path(path).relative_to(root)
    if any(sign in part for part in below.parts[:1] for sign in "*?["):
        return (
            f"its path, {below}, starts with a pattern, so there is no folder for {source.hub}: let it start with a "
            f"folder, such as {source.name}/{below}"
        )
    return None


def known_commit(repository: Repository) -> str | None:
    """Return the commit to download, if it is known without contacting the hub.

    Args:
        repository: The repository.

    Returns:
        The recipe's commit, else that of an earlier download, else None.

    Raises:
        DataError: If the record of earlier downloads is damaged.
    """
    if repository.pinned:
        return repository.revision
    entry = _record(repository.root).get(repository.key)
    return entry["commit"] if entry is not None else None


def fetch_repository(repository: Repository) -> str:
    """Download the missing files of a repository. Resumes an interrupted download.

    Args:
        repository: The repository.

    Returns:
        The downloaded commit.

    Raises:
        DataError: If the hub refuses the repository or the download is incomplete.
        DiskFullError: If the files do not fit on the disk.
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
            _write_record(repository, commit, whole=False)
            huggingface_hub.snapshot_download(name, repo_type="dataset", revision=commit, local_dir=repository.folder)
    except (DataError, DiskFullError):
        raise
    # The client raises errors of its HTTP library, which differs between releases.
    except Exception as error:
        raise DataError(f"{name}: {_explain(error, repository)}") from error
    # If the connection breaks, the client returns the incomplete files as the snapshot.
    if missing := _missing(repository.folder, sizes):
        raise DataError(
            f"{name}: {len(missing):,} of {len(sizes):,} files are missing or incomplete, such as {missing[0]}: "
            "the download was interrupted; run the same command again to resume"
        )
    for rest in repository.folder.glob(".cache/huggingface/**/*.incomplete"):
        rest.unlink(missing_ok=True)  # left by killed processes: the client does not resume them
    _write_record(repository, commit, whole=True)
    return commit


def _missing(folder: Path, sizes: dict[str, int]) -> list[str]:
    def exists(name: str, size: int) -> bool:
        path = folder / name
        return path.is_file() and path.stat().st_size == size

    return [name for name, size in sizes.items() if not exists(name, size)]


def _check_room(repository: Repository, sizes: dict[str, int]) -> None:
    needed = sum(sizes[name] for name in _missing(repository.folder, sizes))
    place = next(path for path in (repository.folder, *repository.folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DiskFullError(
            f"{repository.name}: needs {needed / 2**30:,.1f} GiB in {repository.folder}, but only "
            f"{free / 2**30:,.1f} GiB are free: make room, or move data.root to another disk. Nothing was downloaded"
        )


def _record(root: Path) -> dict[str, Download]:
    path = root / RECORD
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}): delete it to download the newest commits") from None
    if not isinstance(entries, dict):
        raise DataError(f"{path}: got {type(entries).__name__}, expected commits by repository: delete it")
    # Older files have the repository's name without the revision.
    return {key if "@" in key else f"{key}@{about['revision']}": about for key, about in entries.items()}


def _write_record(repository: Repository, commit: str, whole: bool) -> None:
    about: Download = {
        "revision": repository.revision,
        "commit": commit,
        "folder": str(repository.folder),
        "whole": whole,
    }
    with replacing(repository.root / RECORD) as temporary:
        record = _record(repository.root) | {repository.key: about}
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _explain(error: Exception, repository: Repository) -> str:
    """Describe an error of the hub's client, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "access must be requested: request it on its page, then log in (`hf auth login`, or set HF_TOKEN)"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"no revision {repository.revision!r}: correct data.sources.{repository.sources[0].name}.revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such data set, or a private one: correct `hub`, or log in (`hf auth login`)"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "the hub's client is offline: unset HF_HUB_OFFLINE"
    return f"{type(error).__name__}: {error}: run the same command again to resume"
