"""Set before anything imports huggingface_hub: no test may reach for the network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
# Threads that wait spinning take the cores from processes beside them; set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
