"""What a step pays for the bank: `splice` and the way back, against the clips of a video; CPU and wall milliseconds.

    python tests/bench/bench_bank.py [--clips 16 256 1024] [--videos 2] [--fresh 10] [--d 1024] [--rounds 30] [--step-seconds 30]

`--step-seconds` is the time of the rest of a step (backbone on the fresh clips, decoder, backward): the last column says what
part of it the bank adds beyond the shortest videos.
"""
import argparse, tempfile, time
from pathlib import Path
import torch
from tqn.bank import FeatureBank

def step(bank, ids, starts, fresh):
    "One step without backbone and decoder"
    features, _ = bank.splice(ids, starts, fresh)
    features.sum().backward()
    bank.advance()

def measure(folder, n, dtype, sync, a):
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
        step(bank, batch, starts, fresh)
        wall.append(time.perf_counter()-begin[0]); cpu.append(time.process_time()-begin[1])
    begin = time.perf_counter()
    bank.checkpoint()
    end = time.perf_counter()
    bank.close()
    return [1e3*torch.tensor(o).median().item() for o in (wall, cpu)] + [1e3*(end-begin)]

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--clips', type=int, nargs='+', default=[16, 256, 1024])
    for name,value in (('videos',2), ('fresh',10), ('d',1024), ('rounds',30)): p.add_argument(f'--{name}', type=int, default=value)
    p.add_argument('--step-seconds', type=float)
    a = p.parse_args()
    torch.set_num_threads(1)
    print(f"{a.videos} videos a step, {a.fresh} fresh clips each, d {a.d}; median of {a.rounds} steps")
    print(f"{'dtype':8} {'sync':5} {'clips':>6} {'wall ms':>8} {'cpu ms':>8} {'checkpoint ms':>14}" + ('  added to the step' if a.step_seconds else ''))
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ('float32','float16'):
            for sync in (True, False):
                first = None
                for n in a.clips:
                    wall, cpu, end = measure(Path(folder)/f'{dtype}{sync}{n}', n, dtype, sync, a)
                    first = wall if first is None else first
                    more = f"  {(wall-first)/1e3/a.step_seconds:+.2%}" if a.step_seconds else ''
                    print(f"{dtype:8} {sync!s:5} {n:6d} {wall:8.2f} {cpu:8.2f} {end:14.1f}{more}", flush=True)

if __name__ == '__main__': main()
