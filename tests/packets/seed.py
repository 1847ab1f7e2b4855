"""The chance in random tests, replayable: SMTPFENCE_SEED=N draws again what a failed test drew, which prints its N."""

import os
import random


def printed_seed():
    """SMTPFENCE_SEED, else another number each time."""
    seed = int(os.environ.get("SMTPFENCE_SEED", random.randrange(1 << 32)))
    print(f"SMTPFENCE_SEED={seed}", flush=True)
    return seed
