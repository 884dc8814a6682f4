"""The paper's own simulation, shared by bench/anchor.py and bench/published_ablations.py; rows of the latter."""
