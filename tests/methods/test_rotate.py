import pytest
import torch

from mobilequant.arch import point, registry
from mobilequant.errors import UsageError
from mobilequant.evaluate.sqnr import sqnr
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.lower import lower
from mobilequant.integer.provable import provable
from mobilequant.jobs.package import write_package
from mobilequant.jobs.simulation import load_simulation, save_simulation
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.methods.unit import unit_generator
from mobilequant.models.decoder import compute_prefix, forward
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.method import Result, Unit
from mobilequant.pipeline.scheme import Scheme
from mobilequant.pipeline.workspace import Workspace

FAMILIES = registry.model_types()
POST_NORMS = ("gemma2", "gemma3_text")
TOKENS = torch.randint(0, 96, (4, 20), generator=torch.Generator().manual_seed(7))
PREFIX = (1, 5)
