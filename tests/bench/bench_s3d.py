"""S3D inference: `fuse` against the plain way (default layout, nothing folded), and bf16 against float32 where the CPU is made for it; same clips, in CPU seconds, in turns, one thread.

    python tests/bench/bench_s3d.py [--pixels 224] [--batches 1 4 16] [--repeats 3]
"""
import argparse, time
from contextlib import nullcontext
import torch
from tqn.models.backbone import S3D, fuse, has_bf16

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--pixels', type=int, default=224); p.add_argument('--batches', type=int, nargs='+', default=[1, 4, 16]); p.add_argument('--repeats', type=int, default=3)
    a = p.parse_args(args)
    torch.set_num_threads(1); torch.manual_seed(0)
    net = S3D().eval()
    ways = {'plain': S3D().to(memory_format=torch.contiguous_format).eval(), 'channels last': net, 'fuse': fuse(net)}
    ways['plain'].load_state_dict(net.state_dict())
    if has_bf16(): ways['bf16'] = fuse(net).to(torch.bfloat16)                   # as `stream` runs it
    found = {}
    for b in a.batches:
        clips = torch.randn(b, 3, 8, a.pixels, a.pixels)
        inputs = {k: clips if k=='plain' else clips.to(memory_format=torch.channels_last_3d) for k in ways}
        spent,out = {k: [] for k in ways},{}
        with torch.no_grad():
            for r in range(max(a.repeats, 12//b)+1):                             # short runs are noisy
                for k,m in ways.items():
                    with torch.autocast('cpu', torch.bfloat16) if k=='bf16' else nullcontext(): cpu = time.process_time(); out[k] = m(inputs[k]); cpu = time.process_time()-cpu
                    if r: spent[k].append(cpu/b)
        least = {k: min(v) for k,v in spent.items()}
        off = float((out['fuse']-out['plain']).abs().max()/out['plain'].abs().max())
        print(f'batch {b}: '+', '.join(f'{k} {least[k]*1e3:.0f} ms a clip' for k in ways)+f'; {least["plain"]/least["fuse"]:.2f} times the plain way, largest difference {off:.1e} of the maximum')
        found[f'S3D inference at {a.pixels} pixels, batch {b}, times as fast as the plain way'] = least['plain']/least['fuse']
        if 'bf16' not in ways: continue
        off = float((out['bf16'].float()-out['fuse']).abs().max()/out['fuse'].abs().max())
        print(f'   bf16 {least["fuse"]/least["bf16"]:.2f} times as fast as float32, largest difference {off:.2%} of the maximum')
        found[f'S3D inference in bf16, {b} at a time, speed of fused float32'] = least['fuse']/least['bf16']
    return found

if __name__=='__main__': main()
