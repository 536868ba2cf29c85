"""The locks that `make lock` writes: exact, within pyproject.toml's ranges, and what this environment consists of."""

import ast
import re
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distributions, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
APP, DEV, ZEROGPU = "requirements.txt", "requirements-dev.txt", "requirements-zerogpu.txt"
UNLOCKED = {"gcr-core", "pip"}
"""What an environment has beside its lock: the project itself, and what installed it."""


def pins(name: str) -> dict[str, Requirement]:
    """A lock's lines, by the package's canonical name."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if not line.startswith("#")]
    assert len({canonicalize_name(pin.name) for pin in parsed}) == len(parsed), f"{name} names a package twice"
    return {canonicalize_name(pin.name): pin for pin in parsed}


def version(pin: Requirement) -> Version:
    [exact] = pin.specifier
    return Version(exact.version)


def declared(*groups: str) -> list[Requirement]:
    """pyproject.toml's requirements: of the library and of these dependency groups."""
    lists = [PROJECT["project"]["dependencies"], *(PROJECT["dependency-groups"][group] for group in groups)]
    return [Requirement(line) for lines in lists for line in lines]


def wanted(name: str, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """What an installed package, with these extras, asks for here."""
    for requirement in map(Requirement, requires(name) or ()):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def brought(name: str, extras: Iterable[str] = ()) -> set[str]:
    """Canonical names of all that an installed package asks for here, directly or through others."""
    names: set[str] = set()
    for requirement in wanted(name, extras):
        names.add(canonicalize_name(requirement.name))
        try:
            names |= brought(requirement.name, requirement.extras)
        except PackageNotFoundError:
            continue
    return names


@pytest.mark.parametrize("name", [APP, DEV, ZEROGPU])
def test_every_line_of_a_lock_is_one_exact_version_without_a_build(name):
    for pin in pins(name).values():
        [exact] = pin.specifier
        assert exact.operator == "==" and "*" not in exact.version, pin
        assert Version(exact.version).local is None, f"{pin} admits no other build"
        assert not pin.url and not pin.extras, pin


@pytest.mark.parametrize(("name", "groups"), [(APP, ()), (DEV, ("dev",)), (ZEROGPU, ())])
def test_a_lock_has_all_that_the_project_asks_for_within_its_ranges(name, groups):
    locked = pins(name)
    for requirement in [*declared(*groups), *map(Requirement, PROJECT["build-system"]["requires"])]:
        pin = locked[canonicalize_name(requirement.name)]
        assert pin.marker is None and requirement.specifier.contains(version(pin)), f"{pin} is not {requirement}"


def test_tests_run_on_the_versions_that_the_app_runs_on():
    assert {str(pin) for pin in pins(APP).values()} <= {str(pin) for pin in pins(DEV).values()}


def test_a_space_on_zerogpu_differs_from_the_app_in_torch_and_what_torch_asks_for_alone():
    app, zerogpu = pins(APP), pins(ZEROGPU)
    differing = {name for name in app.keys() | zerogpu.keys() if str(app.get(name)) != str(zerogpu.get(name))}
    assert "torch" in differing
    assert differing <= {"torch"} | {canonicalize_name(requirement.name) for requirement in wanted("torch")}
    assert version(zerogpu["torch"]) < version(app["torch"])


def test_the_lock_is_within_the_bounds_of_the_gradio_that_a_space_installs_beside_it():
    locked = pins(DEV)
    for requirement in wanted("gradio", ("oauth", "mcp")):
        pin = locked.get(canonicalize_name(requirement.name))
        assert pin is None or requirement.specifier.contains(version(pin)), f"{pin} is not {requirement}"


@pytest.mark.parametrize("name", [APP, DEV, ZEROGPU])
def test_a_lock_has_nothing_of_torchs_cuda_build(name):
    assert not [pin for pin in pins(name) if re.match(r"nvidia|cuda|triton|pytorch-triton", pin)]


def test_this_environment_is_its_lock_and_nothing_else():
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    found = {canonicalize_name(one.name): Version(one.version).public for one in distributions(path=[*folders])}
    here = {name: str(version(pin)) for name, pin in pins(DEV).items() if pin.marker is None or pin.marker.evaluate()}
    unlocked = found.keys() - here.keys() - UNLOCKED - brought("torch")
    assert not unlocked, "not in requirements-dev.txt: `make clean`, or declare it in pyproject.toml and `make lock`"
    assert {name: public for name, public in found.items() if name in here} == here


@pytest.mark.parametrize(
    ("patterns", "groups"),
    [(("app.py", "gcr_core/**/*.py"), ()), (("benchmarks/*.py", "scripts/*.py", "tests/**/*.py"), ("dev",))],
)
def test_whatever_is_imported_is_declared(patterns, groups):
    files = [file for pattern in patterns for file in ROOT.glob(pattern)]
    own = {"gcr_core", "tests", "spaces", *(file.stem for file in files)}
    names = {canonicalize_name(requirement.name) for requirement in declared(*groups)}
    packages = packages_distributions()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules.append(node.module)
            for module in {name.partition(".")[0] for name in modules} - own - sys.stdlib_module_names:
                assert names & set(map(canonicalize_name, packages[module])), f"{file}: {module} is not declared"
