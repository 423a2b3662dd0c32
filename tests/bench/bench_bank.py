"""What the bank costs: rows alone, the whole step of stage 2, and the memory of an evaluation, against the clips of a video.

    python tests/bench/bench_bank.py rows [--clips 16 256 1024] [--videos 2] [--fresh 10] [--d 1024] [--rounds 30]
    python tests/bench/bench_bank.py step [--clips 16 1024] [--videos 1] [--fresh 2] [--pixels 224] [--rounds 7]
    python tests/bench/bench_bank.py memory [--clips 32 2048] [--pixels 64] [--width 0.25]

`rows`: `splice`, the way back, `advance`, and a checkpoint; wall and CPU milliseconds.
`step`: everything that `tqn train --stage 2` does for a batch (S3D on the fresh clips, bank, decoder, loss, backward, clipping,
Adam); lengths take turns, so that what else the machine does meets all of them. Goal: at most 5% from 16 to 1,024 clips.
`memory`: the largest resident size of a process that tests a model on one video, and of one that builds its bank. Goal: within 10%
from 32 to 2,048 clips.
"""
import argparse, subprocess, sys, tempfile, time
from pathlib import Path
import torch
from tqn.features.bank import FeatureBank

def median(values): return torch.tensor(values, dtype=torch.float64).median().item()


# Rows alone

def rows_step(bank, ids, starts, fresh):
    "One step without backbone and decoder"
    features, _ = bank.splice(ids, starts, fresh)
    features.sum().backward()
    bank.advance()

def measure_rows(folder, n, dtype, sync, a):
    "Median wall and CPU milliseconds of a step on videos of n clips, and of the checkpoint after them"
    ids = [f'v{i}' for i in range(max(8, 2*a.videos))]
    bank = FeatureBank.create(folder, dict.fromkeys(ids, n), a.d, dtype, sync=sync)
    for id in ids: bank.write([id], [0], torch.randn(1, n, a.d))
    bank.checkpoint()
    g, wall, cpu = torch.Generator().manual_seed(0), [], []
    fresh = torch.randn(a.videos, a.fresh, a.d, requires_grad=True)
    for _ in range(a.rounds):
        batch = [ids[i] for i in torch.randperm(len(ids), generator=g)[:a.videos]]
        starts = torch.randint(n-a.fresh+1, (a.videos,), generator=g)
        begin = time.perf_counter(), time.process_time()
        rows_step(bank, batch, starts, fresh)
        wall.append(time.perf_counter()-begin[0]); cpu.append(time.process_time()-begin[1])
    begin = time.perf_counter()
    bank.checkpoint()
    end = time.perf_counter()
    bank.close()
    return 1e3*median(wall), 1e3*median(cpu), 1e3*(end-begin)

def rows(a):
    print(f"{a.videos} videos a step, {a.fresh} fresh clips each, d {a.d}; median of {a.rounds} steps")
    print(f"{'dtype':8} {'sync':5} {'clips':>6} {'wall ms':>8} {'cpu ms':>8} {'checkpoint ms':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ('float32','float16'):
            for sync in (True, False):
                for n in a.clips:
                    wall, cpu, end = measure_rows(Path(folder)/f'{dtype}{sync}{n}', n, dtype, sync, a)
                    print(f"{dtype:8} {sync!s:5} {n:6d} {wall:8.2f} {cpu:8.2f} {end:14.1f}", flush=True)


# The whole step

class Trainer:
    "A model, an optimiser and a bank of videos of n clips, ready to step"
    def __init__(self, folder, n, a):
        from tqn.models.backbone import S3D
        from tqn.models.tqn import TQN
        from tqn.questions.queries import QuerySet
        from tqn.training.stage2 import BankStage
        from tqn.training.run import make_optimiser
        questions = {q: [str(i) for i in range(k)] for q,k in (('takeoff', 4), ('somersault', 8), ('twist', 8), ('position', 4))}
        torch.manual_seed(0)
        self.queries = QuerySet(questions, classes=[(f'class {i}', ['0', str(i%8), str(i//8), None]) for i in range(48)])
        self.model = TQN(self.queries, backbone=S3D(width=a.width), d_model=a.d, d_features=None).train().to(memory_format=torch.channels_last_3d)
        self.optimiser, self.n, self.a, self.step_number = make_optimiser(self.model), n, a, 0
        self.ids = [f'v{i}' for i in range(4*a.videos)]
        bank = FeatureBank.create(folder, dict.fromkeys(self.ids, n), self.model.backbone.d_out, a.dtype)
        for id in self.ids: bank.write([id], [0], torch.randn(1, n, self.model.backbone.d_out))
        bank.checkpoint()
        self.stage = BankStage(lambda model, step: bank)
        self.stage.restore(self.model, 0)

    def batch(self, g):
        a = self.a
        ids = [self.ids[i] for i in torch.randperm(len(self.ids), generator=g)[:a.videos].tolist()]
        start = torch.randint(self.n-a.fresh+1, (a.videos,), generator=g).tolist()
        x = torch.randn(a.videos, a.fresh, 3, 8, a.pixels, a.pixels, generator=g)
        return {'id': ids, 'x': x, 'valid': torch.ones(a.videos, a.fresh, dtype=torch.bool), 'start': start, 'count': [a.fresh]*a.videos,
                'total': [self.n]*a.videos, 'answers': {q.name: torch.zeros(a.videos, dtype=torch.long) for q in self.queries}, 'class': torch.zeros(a.videos, dtype=torch.long)}

    def step(self, batch):
        from tqn.models.losses import tqn_loss
        out = self.stage.forward(self.model, batch)
        loss,_ = tqn_loss(out, batch['answers'], batch['class'])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 400.)
        self.optimiser.step(); self.optimiser.zero_grad(set_to_none=True)
        self.stage.after_step(self.step_number, 0); self.step_number += 1

def step(a):
    print(f"{a.videos} videos a step, {a.fresh} fresh clips of {a.pixels} pixels each, S3D of width {a.width:g}, d {a.d}; median of {a.rounds} rounds that take turns")
    with tempfile.TemporaryDirectory() as folder:
        trainers = {n: Trainer(Path(folder)/str(n), n, a) for n in a.clips}
        spent = {n: ([], []) for n in a.clips}
        for round in range(a.rounds+1):
            for n,t in sorted(trainers.items(), reverse=round%2 == 1):
                batch = t.batch(torch.Generator().manual_seed(round))
                begin = time.perf_counter(), time.process_time()
                t.step(batch)
                if round: spent[n][0].append(time.perf_counter()-begin[0]); spent[n][1].append(time.process_time()-begin[1])
        print(f"{'clips':>6} {'wall s':>8} {'cpu s':>8} {'cpu ratio':>10} {'lowest, median, highest ratio of a round'}")
        first = spent[a.clips[0]][1]
        for n in a.clips:
            each = sorted(y/x for x,y in zip(first, spent[n][1]))
            print(f"{n:6d} {median(spent[n][0]):8.3f} {median(spent[n][1]):8.3f} {median(spent[n][1])/median(first):10.3f} {each[0]:8.3f} {median(each):8.3f} {each[-1]:8.3f}", flush=True)


# Memory

MEMORY = '''
import resource, sys, tempfile, torch
from tqn import S3D, TQN, QuerySet
from tqn.data.items import Item
torch.set_num_threads(1); torch.manual_seed(0)
task, path, n, pixels, width, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), sys.argv[6]
model = TQN(QuerySet({'twist': ['none', 'half', 'one'], 'entry': ['clean', 'splash']}), backbone=S3D(width=width), preprocess=dict(size=pixels, resize=pixels)).eval()
items = [Item('film', path, {'twist': 'half'})]
if task == 'test':
    from tqn.attention.scores import score_videos
    done = score_videos(model, items, 'two', progress=False)
    assert len(done.evaluation) == 1
else:
    from tqn.features.bank import build_bank
    bank = build_bank(model, items, folder, progress=False)
    assert bank.index.n_rows == n and not bank.missing()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)
'''

def memory(a):
    from tqn.video.video import write_video
    print(f"S3D of width {a.width:g} on {a.pixels} pixels; largest resident size of the process, MB")
    print(f"{'clips':>6} {'test':>8} {'bank':>8} {'seconds':>8}")
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for n in a.clips:
            path = Path(folder)/f'{n}.mp4'
            write_video(path, (torch.full((a.pixels, a.pixels, 3), (37*i)%256, dtype=torch.uint8) for i in range(8*n)))
            begin,found = time.perf_counter(),[]
            for task in ('test', 'bank'):
                args = [sys.executable, '-c', MEMORY, task, path, n, a.pixels, a.width, Path(folder)/f'bank{n}']
                r = subprocess.run([str(o) for o in args], capture_output=True, text=True)
                if r.returncode: sys.exit(r.stderr)
                found.append(float(r.stdout.split()[-1]))
            print(f"{n:6d} {found[0]:8.0f} {found[1]:8.0f} {time.perf_counter()-begin:8.0f}", flush=True)
            peaks[n] = found
    first,last = a.clips[0],a.clips[-1]
    return {f'memory of {task}, {last} against {first} clips of a film': y/x for task,x,y in zip(('a test', 'a bank'), peaks[first], peaks[last])}

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['rows', 'step', 'memory'])
    p.add_argument('--clips', type=int, nargs='+')
    for name in ('videos', 'fresh', 'rounds', 'pixels'): p.add_argument(f'--{name}', type=int)
    p.add_argument('--d', type=int, default=1024)
    p.add_argument('--width', type=float)
    p.add_argument('--dtype', default='float32')
    a = p.parse_args(args)
    usual = dict(rows=dict(clips=[16, 256, 1024], videos=2, fresh=10, rounds=30), step=dict(clips=[16, 1024], videos=1, fresh=2, rounds=7, pixels=224, width=1.),
                 memory=dict(clips=[32, 2048], pixels=64, width=.25))[a.what]
    for name,value in usual.items():
        if getattr(a, name) is None: setattr(a, name, value)
    torch.set_num_threads(1)
    return {'rows': rows, 'step': step, 'memory': memory}[a.what](a) or {}

if __name__ == '__main__': main()
