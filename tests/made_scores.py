"A model whose outputs are its inputs, and a loader of random batches"
from types import SimpleNamespace
import torch
from tqn.questions.queries import QuerySet

class Fake(torch.nn.Module):
    "A model whose outputs are its inputs"
    queries = QuerySet({'takeoff': ['Back','Forward'], 'twist': ['0','1','2']}, classes=[('a', ['Back','0']), ('b', ['Forward','2'])])
    def __init__(self, fail=False): super().__init__(); self.fail,self.was = fail,[]
    def forward(self, x, valid):
        self.was.append((self.training, torch.is_grad_enabled()))
        if self.fail: raise RuntimeError('out of memory')
        b,n = valid.shape
        attn = torch.softmax(x[:,:,0], -1)[:,None,None,None].expand(b, 2, 2, 3, n)*valid[:,None,None,None]
        return SimpleNamespace(responses={'takeoff': x[:,0,:2], 'twist': x[:,0,:3]}, classes=x[:,0,:2], attn=attn)
    def read_classes(self, out, how): return out.classes if how=='query' else -out.classes if how=='product' else 0*out.classes

def fake_loader(n, size, seed=0):
    g = torch.Generator().manual_seed(seed)
    for i in range(0, n, size):
        b = min(size, n-i)
        valid = torch.ones(b, 4, dtype=torch.bool); valid[::2,3] = False
        yield dict(id=[f'v{i+j}' for j in range(b)], x=torch.randn(b, 4, 3, generator=g), valid=valid, **{'class': torch.randint(-1, 2, (b,), generator=g)},
                   answers=dict(takeoff=torch.randint(-1, 2, (b,), generator=g), twist=torch.randint(-1, 3, (b,), generator=g)))
