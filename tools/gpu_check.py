"""What the kit does on a GPU, in one run of at most 8 minutes, as one JSON on the last line. Needs nothing but the repository; without a GPU, or with --toy, everything runs at toy size on the CPU.

`python tools/gpu_check.py [--toy] [--grid FOLDER] [--seconds 450] [--out FILE]`. `--grid` names a folder of GRID's films, for an epoch of stage 1 on the boxes of mouths.
A part that does not fit into the time is left out and named; one that fails says why, and the exit status is 1.
"""
import argparse, json, os, platform, re, subprocess, sys, tempfile, time, traceback
from pathlib import Path
import numpy as np
import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader
from tqn.data.batches import ClipDataset, finish_batch, make_loader
from tqn.data.items import Item
from tqn.models.backbone import S3D, fuse
from tqn.models.losses import tqn_loss
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.training.run import make_optimiser
from tqn.video.transforms import TrainTransform
from tqn.video.video import write_video

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/'tests'/'bench'))
QUERIES = {'takeoff': 4, 'somersault': 8, 'twist': 8, 'position': 4}

class Checks:
    "The parts, each a method that returns a dict of figures"
    def __init__(self, toy, grid, folder):
        self.device = torch.device('cuda' if torch.cuda.is_available() and not toy else 'cpu')
        self.toy,self.grid,self.folder = self.device.type=='cpu',grid,Path(folder)
        self.pixels,self.width,self.clips,self.videos,self.rounds = (32, .0625, 2, 2, 2) if self.toy else (224, 1., 10, 8, 10)

    def model(self):
        "S3D and a TQN on it, where they are measured"
        torch.manual_seed(0)
        queries = QuerySet({q: [str(i) for i in range(k)] for q,k in QUERIES.items()})
        sizes = dict(d_model=32, n_layers=1, n_heads=2) if self.toy else {}
        return TQN(queries, backbone=S3D(width=self.width), **sizes).to(self.device).to(memory_format=torch.channels_last_3d)

    def timed(self, f, n=None):
        "Median seconds of a call, the first two left out"
        def wait():
            if self.device.type=='cuda': torch.cuda.synchronize()
        spent = []
        for i in range((n or self.rounds)+2):
            wait(); begin = time.perf_counter(); f(); wait()
            if i>1: spent.append(time.perf_counter()-begin)
        return float(np.median(spent))

    def autocast(self, kind): return torch.autocast(self.device.type, torch.bfloat16, enabled=kind=='bf16')

    def machine(self):
        "What the figures belong to"
        cuda = self.device.type=='cuda'
        return dict(device=torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(), memory_gb=round(torch.cuda.get_device_properties(0).total_memory/2**30, 1) if cuda else None,
            cores=os.cpu_count(), torch=torch.__version__, pixels=self.pixels, width=self.width)

    def tests(self):
        "The tests that need a GPU"
        if self.toy: return dict(left_out='they need a GPU')
        done = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-n', '0', '-p', 'no:cacheprovider', 'tests', '-k', 'gpu'], cwd=ROOT, capture_output=True, text=True, timeout=180)
        if done.returncode: raise RuntimeError(done.stdout[-1500:])
        return dict(said=done.stdout.strip().splitlines()[-1])

    def bf16(self):
        "Answers in bf16 against those in float32, of the same weights and clips"
        model,x = self.model().eval(),torch.randn(2, self.clips, 3, 8, self.pixels, self.pixels, device=self.device)
        valid = torch.ones(2, self.clips, dtype=torch.bool, device=self.device)
        with torch.no_grad():
            full = model(x, valid).responses
            with self.autocast('bf16'): half = model(x, valid).responses
        off = max(float((full[q]-half[q].float()).abs().max()/full[q].abs().max()) for q in full)
        return dict(largest_difference=off, same_answers=float(np.mean([(full[q].argmax(-1)==half[q].argmax(-1)).float().mean().item() for q in full])))

    def stage1(self):
        "A training step of stage 1 from clips on the device: seconds, and clips a second"
        out = {}
        for kind in ('float32', 'bf16'):
            for compiled in (False, True):
                if self.toy and (compiled or kind=='bf16'): continue
                model = self.model().train()
                run,optimiser = torch.compile(model) if compiled else model,make_optimiser(model)
                x = torch.randn(self.videos, self.clips, 3, 8, self.pixels, self.pixels, device=self.device)
                valid = torch.ones(x.shape[:2], dtype=torch.bool, device=self.device)
                answers,classes = {q: torch.zeros(len(x), dtype=torch.long, device=self.device) for q in QUERIES},torch.full((len(x),), -1, device=self.device)
                def step():
                    with self.autocast(kind): loss,_ = tqn_loss(run(x, valid), answers, classes)
                    loss.backward(); optimiser.step(); optimiser.zero_grad(set_to_none=True)
                try: s = self.timed(step)
                except Exception as e: out[f'{kind}{", compiled"*compiled}'] = f'failed: {type(e).__name__}: {str(e)[:200]}'; continue
                out[f'{kind}{", compiled"*compiled}'] = dict(seconds=s, clips_a_second=x.shape[0]*x.shape[1]/s)
        return out

    def stage2(self):
        "A step of stage 2 with its bank: a few fresh clips of long videos"
        from bench_bank import Trainer
        n = 16 if self.toy else 1024
        a = argparse.Namespace(width=self.width, d=32 if self.toy else 1024, videos=2, fresh=2 if self.toy else 10, pixels=self.pixels, dtype='float32')
        trainer = Trainer(self.folder/'bank', n, a)
        trainer.model.to(self.device); trainer.optimiser = make_optimiser(trainer.model)
        def moved(o): return o.to(self.device) if hasattr(o, 'to') else {k: moved(v) for k,v in o.items()} if isinstance(o, dict) else o
        batch = moved(trainer.batch(torch.Generator().manual_seed(0)))
        return dict(clips=n, fresh=a.fresh, seconds=self.timed(lambda: trainer.step(batch)))

    def extraction(self):
        "Clips a second through the frozen backbone"
        out,n = {},4 if self.toy else 64
        net,x = fuse(S3D(width=self.width)).to(self.device).eval(),torch.randn(n, 3, 8, self.pixels, self.pixels, device=self.device).to(memory_format=torch.channels_last_3d)
        for kind in ('float32', 'bf16'):
            for compiled in (False, True):
                if self.toy and (compiled or kind=='bf16'): continue
                run = torch.compile(net) if compiled else net
                def go():
                    with torch.no_grad(), self.autocast(kind): run(x)
                try: out[f'{kind}{", compiled"*compiled}'] = n/self.timed(go)
                except Exception as e: out[f'{kind}{", compiled"*compiled}'] = f'failed: {type(e).__name__}: {str(e)[:200]}'
        return out

    def loading(self):
        "Clips a second from files: decoded and cropped by workers, coloured on the device, the model left out"
        films,frames,h,w = (3, 24, 48, 64) if self.toy else (64, 80, 256, 340)
        items = []
        for i in range(films):
            path = self.folder/f'{i}.mp4'
            ground = np.random.default_rng(i).integers(0, 255, (h//8+1, w//8+1, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)[:h,:w]
            write_video(path, (np.roll(ground, k, 1) for k in range(frames))); items.append(Item(str(i), path, {'q': 'a'}))
        data,out = ClipDataset(items, QuerySet({'q': ['a', 'b']}), transform=TrainTransform(self.pixels)),{}
        for workers in ((0, 1) if self.toy else (0, 4, os.cpu_count() or 1)):
            begin,n = time.perf_counter(),0
            for batch in DataLoader.__iter__(make_loader(data, min(4, films), workers=workers)):       # bytes, as training gets them
                n += int(batch['valid'].sum())
                finish_batch(send_to_device(batch, self.device, non_blocking=True))
            if self.device.type=='cuda': torch.cuda.synchronize()
            out[f'{workers} workers'] = n/(time.perf_counter()-begin)
        return out

    def mouths(self):
        "An epoch of stage 1 on GRID's boxes of mouths"
        if not self.grid: return dict(left_out='no films of GRID were named')
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, '-m', 'tqn', 'train', str(self.grid), '--preset', 'grid', '--epochs', '1', '--out', str(self.folder/'grid')], cwd=ROOT, capture_output=True, text=True, timeout=240)
        if done.returncode: raise RuntimeError(done.stderr[-1500:])
        return dict(seconds=time.perf_counter()-begin, said=done.stdout.strip().splitlines()[-2:])

PARTS = ('machine', 'tests', 'bf16', 'stage1', 'stage2', 'extraction', 'loading', 'mouths')

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--toy', action='store_true'); p.add_argument('--grid', type=Path); p.add_argument('--seconds', type=float, default=450); p.add_argument('--out', type=Path)
    a = p.parse_args()
    began,found,failed = time.time(),{},False
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TQN_CACHE'] = str(Path(folder)/'cache')
        checks = Checks(a.toy, a.grid, folder)
        for part in PARTS:
            if time.time()-began>a.seconds: found[part] = dict(left_out=f'{a.seconds:g} s were over'); continue
            begin = time.time()
            try: found[part] = getattr(checks, part)()
            except Exception as e: found[part],failed = dict(error=f'{type(e).__name__}: {e}'[-1500:]),True; traceback.print_exc()
            print(f'{part}: {time.time()-begin:.0f} s', file=sys.stderr, flush=True)
    text = json.dumps({**found, 'seconds': round(time.time()-began)})
    if a.out: a.out.write_text(text+'\n')
    print(text)
    sys.exit(failed)

if __name__ == '__main__': main()
