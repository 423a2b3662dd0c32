"""A training step on small features, in processes of their own: threads that wait sleep (as `import tqn` sets it) against threads that spin (torch's own way), with the machine as it is and with another process that is busy.

    python tests/bench/bench_threads.py [--steps 5] [--repeats 3]
"""
import argparse, os, subprocess, sys
import numpy as np

STEP = '''
import sys, time
if sys.argv[2]=='first': import torch
from tqn import TQN, QuerySet
import torch
from tqn.models.losses import tqn_loss
from tqn.training.run import make_optimiser
torch.manual_seed(0)
queries = QuerySet({q: [str(i) for i in range(k)] for q,k in (('takeoff', 4), ('somersault', 8), ('twist', 8), ('position', 4))})
model = TQN(queries, d_model=128, d_features=256).train()
optimiser,n = make_optimiser(model),int(sys.argv[1])
x,valid,answers,classes = torch.randn(32, 12, 256), torch.ones(32, 12, dtype=torch.bool), {q.name: torch.zeros(32, dtype=torch.long) for q in queries}, torch.full((32,), -1)
def step():
    loss,_ = tqn_loss(model(x, valid), answers, classes)
    loss.backward(); optimiser.step(); optimiser.zero_grad(set_to_none=True)
for _ in range(2): step()
wall,cpu = time.perf_counter(),time.process_time()
for _ in range(n): step()
print((time.perf_counter()-wall)/n, (time.process_time()-cpu)/n)
'''
WAYS = {'as torch has it': ('first', {}), 'as tqn sets it': ('', {}), 'one thread': ('', {'OMP_NUM_THREADS': '1'})}

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--steps', type=int, default=5); p.add_argument('--repeats', type=int, default=3)
    a = p.parse_args(args)
    clean = {k: v for k,v in os.environ.items() if not k.startswith(('OMP_', 'KMP_', 'GOMP_'))}
    def once(first, env): return [float(o) for o in subprocess.run([sys.executable, '-c', STEP, str(a.steps), first], env={**clean, **env}, capture_output=True, text=True, check=True).stdout.split()]
    found = {}
    for busy in (0, 1):
        others = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(busy)]
        spent = {k: [] for k in WAYS}
        try:
            for _ in range(a.repeats):
                for k,way in WAYS.items(): spent[k].append(once(*way))
        finally:
            for o in others: o.kill()
        wall,cpu = ({k: np.median([o[i] for o in v]) for k,v in spent.items()} for i in (0, 1))
        print(f'{busy} busy processes on the machine; median of {a.repeats}, milliseconds a step')
        for k in WAYS: print(f'  {k:16} wall {wall[k]*1e3:7.1f}, CPU {cpu[k]*1e3:7.1f}; CPU of one thread: {cpu[k]/cpu["one thread"]:.2f}')
        found[f'CPU of a small training step, {busy} busy processes, torch as it comes against tqn'] = cpu['as torch has it']/cpu['as tqn sets it']
    return found

if __name__=='__main__': main()
