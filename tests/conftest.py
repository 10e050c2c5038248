"""Set before anything imports huggingface_hub: no test may reach for the network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
