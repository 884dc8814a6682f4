"""The systems that are compared, by name."""

from engine.systems.llama_cpp import LlamaCpp
from engine.systems.mobilequant import MobileQuant
from engine.systems.onnx_runtime import OnnxRuntime
from engine.systems.openvino import OpenVino
from engine.systems.system import System

SYSTEMS: dict[str, type[System]] = {each.name: each for each in (MobileQuant, LlamaCpp, OnnxRuntime, OpenVino)}
