"""Configs and pickles that call what no model needs."""

import os

CALLS = {
    "a shell": {"_target_": "os.system", "command": "{command}"},
    "a shell, positional": {"_target_": "os.system", "_args_": ["{command}"]},
    "a shell under its other name": {"_target_": "posix.system", "_args_": ["{command}"]},
    "a process": {"_target_": "subprocess.getoutput", "cmd": "{command}"},
    "a shell for later": {"_target_": "os.system", "_partial_": True, "command": "{command}"},
    "a builtin": {"_target_": "builtins.eval", "_args_": ["__import__('os').system('{command}')"]},
    "another builtin": {"_target_": "builtins.open", "_args_": ["{file}", "w"]},
    "a pickle": {"_target_": "torch.load", "f": "{file}", "weights_only": False},
    "a pickle by another door": {"_target_": "torch.serialization.load", "f": "{file}", "weights_only": False},
    "a compiler": {"_target_": "torch.utils.cpp_extension.load_inline", "name": "x", "cpp_sources": "{command}"},
    "a model from the network": {"_target_": "torch.hub.load", "repo_or_dir": "x/y", "model": "z"},
    "a process of torch's": {"_target_": "torch.distributed.run.main", "args": ["{command}"]},
    "torch's own imports": {"_target_": "torch.os.system", "command": "{command}"},
    "an optimiser's imports": {"_target_": "torch.optim.adam.torch.load", "f": "{file}", "weights_only": False},
    "lightning's imports": {"_target_": "lightning.pytorch.trainer.trainer.os.system", "command": "{command}"},
    "this package's imports": {"_target_": "vdm.runs.provenance.subprocess.getoutput", "cmd": "{command}"},
    "this package's imports, from": {"_target_": "vdm.data.split.hashlib.sha256", "_args_": ["{file}"]},
    "a writing function of this package": {
        "_target_": "vdm.runs.files.write_atomically", "path": "{file}", "content": "x",
    },
    "a method without its object": {"_target_": "vdm.runs.folder.RunFolder.write_metrics", "_args_": ["{file}", 1]},
    "hydra's look-up": {"_target_": "hydra.utils.get_method", "path": "os.system"},
    "hydra's call": {"_target_": "hydra.utils.call", "_args_": [{"_target_": "os.system", "_args_": ["{command}"]}]},
    "hydra's look-up of objects": {"_target_": "hydra.utils.get_object", "path": "os.system"},
    "hydra's look-up of classes": {"_target_": "hydra.utils.get_class", "path": "subprocess.Popen"},
    "inside a trusted call's arguments": {
        "_target_": "builtins.len", "_args_": [[{"_target_": "os.system", "_args_": ["{command}"]}]],
    },
    "a call whose name is a call": {"_target_": {"_target_": "os.system", "_args_": ["{command}"]}},
    "a name that looks like this package's": {"_target_": "vdm_evil.System", "command": "{command}"},
    "a relative name": {"_target_": "..os.system", "command": "{command}"},
    "a second config, which brings its own trust": {
        "_target_": "vdm.models.VDM.from_pretrained", "folder": "{file}", "trust": "os",
    },
    "the same under a partial": {"_target_": "vdm.models.MHVAE.from_pretrained", "_partial_": True, "trust": "os"},
    "a reader of files": {"_target_": "vdm.data.image_files.Folder.read", "_args_": ["{file}", "x"]},
    "no package": {"_target_": "exec", "_args_": ["{command}"]},
}  # fmt: skip


def filled(node, words):
    if isinstance(node, str):
        for name, word in words.items():
            node = node.replace(f"{{{name}}}", word)
        return node
    if isinstance(node, list):
        return [filled(value, words) for value in node]
    return {key: filled(value, words) for key, value in node.items()} if isinstance(node, dict) else node


class Touching:
    """An object whose pickle makes a file where it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)
