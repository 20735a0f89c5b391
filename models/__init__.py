"""What a network is; this room knows nothing of methods."""

import os

# torch's threads spin while they wait for each other, unless told otherwise before torch is loaded. Where other
# work has the cores (two lanes of runs, a test suite) a step of two spinning threads took 15 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Waking a sleeping thread takes longer than a small operation: some microseconds of spinning spare that. A texture's
# statistics take 0.6 of their time alone, and beside another such run as long as before (at 20000 three times as long).
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
