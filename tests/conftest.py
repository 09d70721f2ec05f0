"""One thread a process, before anything imports torch: the same sums everywhere, and a process may fork."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
