import getpass
import platform

import torch

from mobilequant.pipeline.environment import environment


def test_the_environment_tells_what_can_change_a_number():
    found = environment()
    assert found.threads == torch.get_num_threads()
    assert found.cpu
    assert "torch" in found.packages


def test_the_environment_names_no_machine_user_or_folder():
    told = environment().model_dump_json()
    assert platform.node() not in told
    assert f'"{getpass.getuser()}"' not in told
    assert "/home" not in told
