"""Reading checkpoints: damaged, foreign and malicious files are refused."""

import zipfile

import pytest
import torch

from vdm.errors import InvalidInput
from vdm.runs.checkpoints import read_checkpoint


def test_read_checkpoint_refuses_bad_files_in_one_line(tmp_path):
    whole = tmp_path / "whole.ckpt"
    torch.save({"vdm": {"format": 1, "config": {}, "provenance": {}}, "state_dict": {}, "global_step": 0}, whole)
    assert read_checkpoint(whole).step == 0
    (tmp_path / "truncated.ckpt").write_bytes(whole.read_bytes()[:300])
    (tmp_path / "text.ckpt").write_text("hello")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.ckpt")
    torch.save({"vdm": {"format": 99, "provenance": "x"}}, tmp_path / "newer.ckpt")
    content = {"vdm": {"format": 1, "config": {}, "provenance": {}}, "state_dict": {}, "global_step": 0}
    for name, changed in (("config", []), ("provenance", "x")):
        torch.save(content | {"vdm": content["vdm"] | {name: changed}}, tmp_path / f"{name}.ckpt")
    torch.save(content | {"global_step": "x"}, tmp_path / "step.ckpt")
    torch.save(content | {"state_dict": {5: torch.zeros(2)}}, tmp_path / "state.ckpt")
    pickles = {"stop": b".", "mark": b"\x80\x02(.", "append": b"\x80\x02]a.", "person": b"\x80\x02K\x01Q."}
    for name, pickled in pickles.items():
        with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / f"{name}.ckpt", "w") as new:
            for record in old.namelist():
                new.writestr(record, pickled if record.endswith("data.pkl") else old.read(record))
    messages = {
        "missing.ckpt": "no checkpoint at",
        "truncated.ckpt": "truncated or not a checkpoint",
        "text.ckpt": "truncated or not a checkpoint",
        "empty.ckpt": "truncated or not a checkpoint",
        "foreign.ckpt": "not a checkpoint of vdm",
        "newer.ckpt": "format 99",
        "config.ckpt": "its config is no dict",
        "provenance.ckpt": "its provenance is no dict",
        "step.ckpt": "its step is no int",
        "state.ckpt": "its state is more than tensors by name",
        **{f"{name}.ckpt": "damaged, truncated or not a checkpoint" for name in pickles},
        ".": "is a folder",
    }
    for name, message in messages.items():
        with pytest.raises(InvalidInput, match=message) as caught:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_read_checkpoint_detects_a_flipped_bit(tmp_path):
    """In any byte of a weight: torch alone would load a different number."""
    path, weights = tmp_path / "x.ckpt", torch.arange(50, dtype=torch.float64)
    own = {"format": 1, "config": {}, "provenance": {}}
    torch.save({"vdm": own, "state_dict": {"w": weights}, "global_step": 0}, path)
    whole = path.read_bytes()
    for byte in range(0, weights.nbytes, 37):
        flipped = bytearray(whole)
        flipped[whole.index(weights.numpy().tobytes()) + byte] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(InvalidInput, match=r"x\.ckpt cannot be read .*\(x/data/0 in it is not what was written\)"):
            read_checkpoint(path)


@pytest.mark.parametrize("part", ["optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch"])
def test_resume_refuses_a_checkpoint_without_training_state(part, tmp_path):
    """Such a checkpoint can still be evaluated."""
    own = {"vdm": {"format": 1, "config": {}, "provenance": {}}, "state_dict": {}, "global_step": 5}
    whole = own | {"optimizer_states": [], "lr_schedulers": [], "loops": {}, "callbacks": {}, "epoch": 0}
    torch.save(whole, tmp_path / "x.ckpt")
    assert read_checkpoint(tmp_path / "x.ckpt", for_resuming=True).step == 5
    for changed in ({k: v for k, v in whole.items() if k != part}, whole | {part: "x"}):
        torch.save(changed, tmp_path / "x.ckpt")
        assert read_checkpoint(tmp_path / "x.ckpt").step == 5
        with pytest.raises(InvalidInput, match=f"its {part} is no "):
            read_checkpoint(tmp_path / "x.ckpt", for_resuming=True)


class Exploit:
    def __reduce__(self):
        return (open, ("/nonexistent/exploit", "w"))


def test_read_checkpoint_runs_no_code(tmp_path):
    torch.save({"vdm": {"format": 1}, "state_dict": Exploit()}, tmp_path / "exploit.ckpt")
    with pytest.raises(InvalidInput, match="not a checkpoint"):
        read_checkpoint(tmp_path / "exploit.ckpt")
