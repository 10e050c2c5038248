"""What training costs on many GPUs, calculated: nothing is run.

A dictionary of 65,536 atoms of 4,096 dimensions, and a billion rows, on 8 and on 64 GPUs, with the speeds below, which
are assumptions. Counts what `SparseCodingModule` does under DDP: coding with a Gram matrix that each device forms anew
for each batch, or from the residual; the dictionary step; the exchange of the float64 sums that its gradient is made
of. Prints the table of docs/scaling.md and writes results/estimate_devices.json.
"""

from typing import Any

from record import write

ATOMS, WIDTH, ROWS = 65_536, 4096, 10**9
STEPS = 64  # greedy steps per row: the cost of the residual way is proportional to it
# Assumed for one H100 (SXM): float32 outside of the tensor cores, because TF32 is switched off where codes are found.
FLOPS = 40e12  # reached, of 67e12
MEMORY_BANDWIDTH = 2.5e12  # reached, of 3.35e12 bytes/s
# Bytes/s of an all-reduce, as nccl-tests counts its bus bandwidth.
NETWORKS = {
    "NVLink, or a 400 Gb/s adapter for each GPU": 300e9,
    "one 400 Gb/s adapter for each node of 8": 40e9,
}
# Times that (m, d) float32 is read or written (a float64 counts twice): by the gradient and its loss, by the optimiser,
# and by the normalisation.
PASSES = 18 + 23 + 5
# Bytes that are summed over devices: float64, for the gradient and for two moments of each atom. The largest
# coefficient of each atom and the largest residual of each dimension are float32.
EXCHANGED = 8 * ATOMS * WIDTH + 16 * ATOMS + 4 * (ATOMS + WIDTH)


def estimate(devices: int, rows: int, gram: bool) -> dict[str, Any]:
    """Seconds, bytes and hours with so many rows for each device in a batch."""
    size = 4 * ATOMS * WIDTH
    product = 2 * ATOMS * WIDTH / FLOPS  # correlations of one row with all atoms
    seconds = {"gram": 0.0, "correlations": rows * product, "greedy steps": (STEPS - 1) * rows * product}
    if gram:
        # The plain backend reads a row of the Gram matrix, and reads, writes and searches the correlations.
        seconds["gram"] = ATOMS * product
        seconds["greedy steps"] = STEPS * rows * 16 * ATOMS / MEMORY_BANDWIDTH
    # For each entry of the codes, the reconstruction reads an atom in float32, and the gradient a row in float64.
    seconds["dictionary step"] = (PASSES * size + STEPS * rows * WIDTH * (4 + 8)) / MEMORY_BANDWIDTH
    exchange = {name: 2 * (devices - 1) / devices * EXCHANGED / speed for name, speed in NETWORKS.items()}
    batch = sum(seconds.values()) + exchange["NVLink, or a 400 Gb/s adapter for each GPU"]
    batches = ROWS / (devices * rows)
    memory = {
        "atoms, gradient, its copy in DDP": 3 * size,
        "the optimiser's working memory": 4 * size,  # more than the float64 sums and their float32, which are gone then
        "moments": 2 * 4 * ATOMS * 2,
        "Gram matrix": 4 * ATOMS**2 if gram else 0,
        "batch and residual": 3 * 4 * rows * WIDTH,
        "correlations": (12 if gram else 4) * rows * ATOMS,
    }
    return {
        "devices": devices,
        "rows_a_device": rows,
        "gram": gram,
        "seconds_a_batch": {**seconds, "exchange": exchange},
        "batches": batches,
        "hours": batches * batch / 3600,
        "device_hours": devices * batches * batch / 3600,
        "rows_a_second": devices * rows / batch,
        "disk_bytes_a_second_and_node": 8 * rows / batch * WIDTH * 2,
        "memory": memory,
        "memory_in_all": sum(memory.values()),
    }


def main() -> None:
    """Print and write the estimates."""
    print(f"{ROWS * WIDTH * 2 / 1e12:.1f} TB of rows in 16 bits; exchange {EXCHANGED / 1e9:.2f} GB")
    results = []
    for gram, rows in ((False, 1024), (True, 4096), (True, 16_384)):
        for devices in (8, 64):
            found = estimate(devices, rows, gram)
            results.append(found)
            parts = {name: each for name, each in found["seconds_a_batch"].items() if name != "exchange"}
            print(
                f"{devices} devices, {rows:,} rows each, {'Gram matrix' if gram else 'residual'}: "
                + ", ".join(f"{name} {1000 * each:,.0f} ms" for name, each in parts.items())
                + ", exchange "
                + " / ".join(f"{1000 * each:.0f}" for each in found["seconds_a_batch"]["exchange"].values())
                + f" ms; {found['batches']:,.0f} batches, {found['hours']:.1f} h, {found['device_hours']:.0f} GPU h, "
                f"{found['rows_a_second']:,.0f} rows/s, {found['disk_bytes_a_second_and_node'] / 1e9:.2f} GB/s a node, "
                f"{found['memory_in_all'] / 1e9:.0f} GB a device"
            )
    settings = {"m": ATOMS, "d": WIDTH, "rows": ROWS, "steps": STEPS, "passes": PASSES, "exchanged": EXCHANGED}
    speeds = {"flops": FLOPS, "memory_bandwidth": MEMORY_BANDWIDTH, "networks": NETWORKS}
    write("estimate_devices", results, settings | speeds)


if __name__ == "__main__":
    main()
