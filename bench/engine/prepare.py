"""Install, build and convert everything that is compared; what is there already stays.

PYTHONPATH=bench python -m engine.prepare [--system OpenVINO …] [--shape llama-1.1b …]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from engine.shapes import SHAPES
from engine.systems import SYSTEMS


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="only these")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="only these")
    arguments = parser.parse_args(given)
    for shape in arguments.shape or SHAPES:
        for name in arguments.system or SYSTEMS:
            system = SYSTEMS[name]()
            system.prepare(SHAPES[shape])
            for variant in system.variants:
                size = system.stored_bytes(SHAPES[shape], variant)
                print(f"{shape}: {variant.title}, {size / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
