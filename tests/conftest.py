"""Settings of the whole run, made before anything is imported that reads them."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for the network
# Threads that wait spinning take the cores from processes beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # GPU kernels run on the CPU, slowly
