from mobilequant.jobs.fingerprint import model_sha256, settings_sha256
from mobilequant.models.tiny import tiny_model


def test_a_fingerprint_sees_every_bit():
    model = tiny_model("llama")
    same = tiny_model("llama")
    assert model_sha256(model) == model_sha256(same)
    same.tensors["layers.1.k.weight"][0, 0] *= -1
    assert model_sha256(model) != model_sha256(same)


def test_settings_are_told_apart_by_all_but_the_order_of_their_keys():
    assert settings_sha256({"a": 1, "b": [1, 2]}) == settings_sha256({"b": [1, 2], "a": 1})
    assert settings_sha256({"a": 1, "b": [1, 2]}) != settings_sha256({"a": 1, "b": [2, 1]})
