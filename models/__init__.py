"""What a network is; this room knows nothing of methods."""

import os

# torch's threads spin while they wait for each other, unless told otherwise before torch is loaded. Where other
# work has the cores (two lanes of runs, a test suite) a step of two spinning threads took 15 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
