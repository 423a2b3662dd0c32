"""A backbone without the gap: the shipped one, trained further on clips of the benchmark's own look.

`python tools/own_look.py weights.safetensors`. About 25 CPU minutes. Only the study of stage 2 (tools/sufb_study.py) uses it."""
import argparse, math, os, time
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from tqn.models.adapters import save_backbone, small_backbone
from tqn.dives.dives import LABELS, REGRESSION, PretrainClips
from tqn.video.transforms import IMAGENET_MEAN, IMAGENET_STD, normalize

WEIGHTS = torch.tensor([4., 16., 1., 1.] + [.7]*9)  # of REGRESSION, as in the last round of the shipped backbone


class Pretrainer(nn.Module):
    "A backbone with one linear layer for each kind of label"
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.numbers = nn.Linear(backbone.d_out, len(REGRESSION))
        self.classes = nn.ModuleList([nn.Linear(backbone.d_out, n) for n in LABELS.values()])

    def forward(self, x):
        f = self.backbone(x)
        return self.numbers(f), [c(f) for c in self.classes]


def loss_of(out, numbers, classes):
    "Smooth L1 for the numbers, cross-entropy for each classification that the batch shows"
    total = (F.smooth_l1_loss(out[0], numbers, reduction='none', beta=.2)*WEIGHTS).mean(0).sum()
    for logits, y in zip(out[1], classes.T):
        if (y >= 0).any(): total = total + F.cross_entropy(logits, y, ignore_index=-1)
    return total


def augment(x, g):
    "Recolour each clip a little and shift all by up to 4 pixels; x is (n, 3, t, h, w) in 0..1"
    shape, p, h = (len(x), 3, 1, 1, 1), 4, x.shape[-1]
    x = (x - .5)*torch.empty(shape).uniform_(.8, 1.2, generator=g) + .5 + torch.empty(shape).uniform_(-.08, .08, generator=g)
    i, j = torch.randint(0, 2*p + 1, (2,), generator=g).tolist()
    return F.pad(x, (p, p, p, p, 0, 0), mode='replicate')[..., i:i+h, j:j+h].clamp(0, 1)


def prepare(x): return normalize(x, IMAGENET_MEAN, IMAGENET_STD).contiguous(memory_format=torch.channels_last_3d)


def unit_scale(backbone, clips):
    "Fold 1/std of every feature into the last batch norms, in place"
    with torch.no_grad(): std = torch.cat([backbone(c) for c in clips]).std(0).clamp_min(.02)
    last = backbone.Mixed_5c
    norms = [last.branch0[0].bn, last.branch1[1].bn2, last.branch2[1].bn2, last.branch3[1].bn]
    for bn, s in zip(norms, std.split([len(o.weight) for o in norms])):
        bn.weight.data /= s
        bn.bias.data /= s


def train(path, steps=1600, batch=32, lr=1e-3, look='natatorium', seed=8):
    "Train from the shipped weights and write the new ones"
    torch.manual_seed(0)
    model = Pretrainer(small_backbone()).to(memory_format=torch.channels_last_3d).train()
    opt = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=.02, fused=True)
    g, loader, began, mean = torch.Generator().manual_seed(0), DataLoader(PretrainClips(look, size=64, seed=seed), batch_size=batch, num_workers=1, prefetch_factor=8), time.time(), None
    for step, (clips, numbers, classes) in zip(range(steps), loader):
        for group in opt.param_groups: group['lr'] = lr*min(1, (step+1)/100)*(.5 + .5*math.cos(math.pi*step/steps) + .005)
        loss = loss_of(model(prepare(augment(clips.permute(0, 4, 1, 2, 3).float()/255, g))), numbers, classes)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.)
        opt.step()
        mean = loss.item() if mean is None else .97*mean + .03*loss.item()
        if step % 100 == 99: print(f'step {step+1} of {steps}, loss {mean:.3f}, {time.time()-began:.0f} s, CPU {time.process_time():.0f} s', flush=True)
    it = iter(DataLoader(PretrainClips(look, size=64, seed=59), batch_size=64))
    unit_scale(model.backbone.eval(), [prepare(next(it)[0].permute(0, 4, 1, 2, 3).float()/255) for _ in range(8)])
    save_backbone(model.backbone, path, torch.float16, trained_on=f'rendered dives, look studio, then {look}', size=64)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('path', type=Path, help='where the weights go')
    parser.add_argument('--steps', type=int, default=1600, help='steps of 32 clips')
    args = parser.parse_args()
    if args.path.exists(): raise SystemExit(f'{args.path} is there already; delete it to train again')
    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1'
    train(args.path, args.steps)
