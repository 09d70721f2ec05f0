"""The commands in this process."""

import sys

import pytest


def invoke(module, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"vdm-{module.__name__.split('.')[-1]}", *map(str, arguments)])
        try:
            module.main()
        except SystemExit as end:
            return end.code
    return 0
