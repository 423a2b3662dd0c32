"""Weights and clips of the golden data, as pure functions of their names; the figures themselves are in tests/data.

The CRC-32 of a name seeds a CPU generator, so no file with weights is needed. See tests/data/README.md.
"""
import json
import math
import zlib
from functools import cache
from pathlib import Path

import torch
from einops import repeat
from safetensors.torch import load_file

DATA = Path(__file__).parent/'data'
GAIN = {'conv': 2.3, 'linear': 1., 'in_proj_weight': 6.}


def generator(name):
    "The CPU generator that belongs to a name"
    return torch.Generator().manual_seed(zlib.crc32(f'tqn-golden-a:{name}'.encode()))


def weight(key, shape):
    "The tensor of one state-dict key"
    g, leaf = generator(key), key.split('.')[-1]
    if leaf == 'num_batches_tracked': return torch.zeros(shape, dtype=torch.long)
    if leaf == 'running_var': return torch.rand(shape, generator=g)+.5
    z = torch.randn(shape, generator=g)
    if leaf == 'running_mean' or leaf.endswith('bias'): return .1*z
    if key == 'query_embed.weight': return z
    if z.ndim == 1: return 1+.1*z
    gain = GAIN.get(leaf) or GAIN['conv' if z.ndim == 5 else 'linear']
    z = z*math.sqrt(gain/math.prod(z.shape[1:]))
    return z-z.mean((1,2,3,4), keepdim=True) if z.ndim == 5 else z


def clip(name):
    "One clip (3, 8, 224, 224): noise in blocks of 16 x 16 pixels"
    g = generator(f'clip/{name}')
    amplitude = .25+1.5*torch.rand(3, 1, 1, 1, generator=g)
    offset = torch.randn(3, 1, 1, 1, generator=g)
    return repeat(amplitude*torch.randn(3, 8, 14, 14, generator=g)+offset, 'c t h w -> c t (h i) (w j)', i=16, j=16)


def clips(name, n):
    "`n` clips (n, 3, 8, 224, 224)"
    return torch.stack([clip(f'{name}/{i}') for i in range(n)])


def bank_rows(name, n, d=1024):
    "Rows of a feature bank (n, d)"
    return .5*torch.randn(n, d, generator=generator(f'bank/{name}')).abs()


@cache
def expected():
    "The golden tensors, 'case.tensor'"
    return load_file(DATA/'expected.safetensors')


@cache
def scalars():
    "The golden losses, gradient norms and the like"
    return json.loads((DATA/'expected_scalars.json').read_text())


def keys(aliases=False):
    "Names and shapes of the published state dict; with the second names, or without"
    rows = json.loads((DATA/'original_state_dict.json').read_text())
    return [(r['key'], r['shape'], r['alias_of']) for r in rows if aliases or r['alias_of'] is None]


def state_dict(aliases=True):
    "The published checkpoint, second names included"
    out = {k: weight(k, shape) for k, shape, _ in keys()}
    return {k: out[a or k] for k, _, a in keys(aliases)}
