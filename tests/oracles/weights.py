"""Freezes torch's conversions between the dtypes of weights:
tests/data/weights/conversions.safetensors.

    python tests/oracles/weights.py            (needs torch, safetensors)

For each dtype a tensor of bit patterns (random ones, halfway cases, subnormals, infinities, NaN), and
the same tensor converted to each dtype by torch.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).parent.parent / "data" / "weights"


def patterns_32() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    bits = torch.randint(-(2**31), 2**31, (3000,), generator=generator, dtype=torch.int64).to(torch.int32)
    values = torch.randn(1000, generator=generator)
    # Exactly between two neighbours in the narrower dtypes, and one step to either side.
    base = torch.randint(0, 2**15, (500,), generator=generator, dtype=torch.int64) << 16
    ties = torch.cat([base | 0x8000, base | 0x7FFF, base | 0x8001]).to(torch.int32)
    half_ties = torch.cat([((torch.arange(500) + 0x3F800) << 12) | 0x1000 | d for d in (0, 1)]).to(torch.int32)
    special = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, 65504.0, 65519.99, 65520.0,
                            6e-8, 2.98e-8, 3.4e38, -3.4e38, 1e-40])
    return torch.cat([bits.view(torch.float32), values, ties.view(torch.float32), half_ties.view(torch.float32), special])


def patterns_16(dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    bits = torch.randint(-(2**15), 2**15, (2000,), generator=generator, dtype=torch.int64).to(torch.int16)
    return bits.view(dtype)


def main() -> None:
    sources = {"F32": patterns_32(), "F16": patterns_16(torch.float16), "BF16": patterns_16(torch.bfloat16)}
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    tensors = {f"{a} as {b}": x.to(t).clone() for a, x in sources.items() for b, t in types.items()}
    OUT.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT / "conversions.safetensors")


main()
