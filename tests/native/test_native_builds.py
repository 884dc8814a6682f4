"""The engine's own tests: natively, under sanitizers, and for 64-bit Arm in QEMU; and packages that were spoiled."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine_build import succeed, tool

MUTANTS = 5_000  # in each of two processes


@pytest.fixture
def packages(tiny):
    return [str(tiny(name)) for name in ("llama", "gpt2", "gemma3", "narrow heads")]


def ctest(build, *options):
    return succeed([tool("ctest"), "--test-dir", str(build.folder), "--output-on-failure", *options])


@pytest.mark.parametrize("preset", ["sanitize", "native", "aarch64"])
def test_parts(build, preset):
    build(preset).make()
    ctest(build(preset))


@pytest.mark.parametrize("program, package", [("team_test", None), ("engine_test", "gpt2")])
def test_threads_do_not_race(build, tiny, program, package):
    """ThreadSanitizer wants its addresses where they always were."""
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    succeed([*fixed, *build("thread").program(program), *([str(tiny(package))] if package else [])])


@pytest.mark.parametrize("preset", ["sanitize", "native"])
def test_packages_give_the_same_logits_on_all_kernels(build, preset, packages):
    succeed([*build(preset).program("engine_test"), *packages])
    succeed([*build(preset).program("api_test"), *packages])


def test_packages_give_the_same_logits_on_all_kernels_of_arm(build, tiny):
    """Whatever the threads: emulated, every barrier takes long, so one package is enough."""
    succeed([*build("aarch64").program("engine_test"), str(tiny("gpt2"))])
    succeed([*build("aarch64").program("api_test"), str(tiny("gpt2"))])


def test_spoiled_packages_are_refused_or_run(build, packages):
    """Under sanitizers, with little memory: nothing that stands in a package leads out of an array."""
    program = build("sanitize").program("package_mutations")
    small = packages[:2]
    with ThreadPoolExecutor() as pool:
        seeds = [str(MUTANTS * number) for number in range(2)]
        runs = list(pool.map(lambda seed: succeed([*program, str(MUTANTS), seed, *small]), seeds))
    for said in runs:
        _, ran, refused = (int(word) for word in said.split() if word.isdigit())
        assert ran > MUTANTS // 20 and refused > MUTANTS // 4, said
