"""The public calls from Python, each offered as ``vdm.<name>``: what the commands do, on objects, without Hydra's words."""
