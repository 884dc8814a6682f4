"""The sampler of csrc/runtime/sampler.h once more, in Python's unbounded integers, written from what it promises."""

import math
from decimal import Decimal, getcontext
from fractions import Fraction

getcontext().prec = 60

OCTAVES = 30  # what is less likely than the first by more than these is never drawn
STEPS = 256  # of an octave
WHOLE = 1 << 32
LOG2_E = 1.4426950408889634

POWERS = [int((Decimal(2) ** (OCTAVES - Decimal(j) / STEPS)).to_integral_value()) for j in range(STEPS)]


def factor(value):
    """A real factor as mantissa of 31 bits and shift."""
    shift = min(max(31 - math.frexp(value)[1], 1), 62)
    return round(Fraction(value) * 2**shift), shift


def scaled(value, by):
    mantissa, shift = by
    return (value * mantissa + 2 ** (shift - 1)) // 2**shift


class TwinSampler:
    def __init__(self, scale, *, temperature, top_k=0, top_p=1.0, repetition_penalty=1.0, seed=0):
        self.greedy = temperature == 0
        steps = scale * LOG2_E / temperature * STEPS if temperature else 1
        self.octaves = factor(min(steps, 2.0**30))
        self.divide, self.multiply = factor(1 / repetition_penalty), factor(repetition_penalty)
        self.penalized = repetition_penalty != 1
        self.top_k, self.top_p = top_k, int(Fraction(top_p) * WHOLE)
        self.all_of_them = top_k == 0 and top_p == 1
        self.state = seed

    def choose(self, logits, before):
        logits = [int(logit) for logit in logits]
        for token in set(before) if self.penalized else ():
            logits[token] = scaled(logits[token], self.divide if logits[token] > 0 else self.multiply)
        order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
        if self.greedy:
            return order[0]
        weights = {token: self.weight(logits[order[0]] - logits[token]) for token in order}
        candidates = [token for token in order if weights[token] is not None]
        if self.all_of_them:
            candidates.sort()
        else:
            candidates = self.likeliest(candidates[: self.top_k or None], weights)
        return self.drawn(candidates, weights)

    def weight(self, distance):
        octaves, step = divmod(scaled(distance, self.octaves), STEPS)
        return POWERS[step] >> octaves if octaves <= OCTAVES else None

    def likeliest(self, candidates, weights):
        total, held, kept = sum(weights[token] for token in candidates), 0, []
        for token in candidates:
            if held * WHOLE >= total * self.top_p:
                break
            kept.append(token)
            held += weights[token]
        return kept or candidates[:1]

    def drawn(self, candidates, weights):
        left = self.random() * sum(weights[token] for token in candidates) >> 64
        for token in candidates:
            if left < weights[token]:
                return token
            left -= weights[token]
        raise AssertionError("a random number below 2^64 ends inside the candidates")

    def random(self):
        """SplitMix64."""
        word = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & word
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & word
        z = (z ^ z >> 27) * 0x94D049BB133111EB & word
        return z ^ z >> 31
