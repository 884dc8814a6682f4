"""The C++ engine from Python: packages run with numpy, tokenizers and the compiled engine alone."""
