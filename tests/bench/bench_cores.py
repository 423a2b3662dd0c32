"""How many cores one GPU needs, and what films made small once are worth.

    python tests/bench/bench_cores.py [--clips 8] [--rounds 3]

Two things are measured, one thread, CPU seconds, the model left out: a clip of eight frames at 224 pixels that is decoded and cropped for a GPU out of films of 256 lines, and the same out of films of 720 lines before and after `tqn cut --height 256`.
The table of cores is arithmetic from that, from the counted operations of S3D and from an assumed speed of the GPU in this network; it is no measurement on one. (An H100 does 989 TFLOP/s in bf16 on its data sheet; 60, 100 and 200 are 6, 10 and 20% of them.)
"""
import argparse, os, tempfile, time
from pathlib import Path
import av
import numpy as np, torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from tqn.data.check import cut_item, cut_path
from tqn.data.items import Item
from tqn.models.backbone import S3D
from tqn.video.transforms import TrainTransform, split_transform
from tqn.video.video import open_video

SPEEDS = 60,100,200   # TFLOP/s that the network gets

def operations(pixels=224, frames=8):
    "Floating-point operations of a clip in S3D (a multiplication and an addition are two): forward alone, and forward with backward"
    found = []
    for train in (False, True):
        with torch.device('meta'), torch.set_grad_enabled(train), FlopCounterMode(display=False) as count:
            out = S3D()(torch.empty(2, 3, frames, pixels, pixels))             # two, since batch norm learns from several
            if train: out.sum().backward()
        found.append(count.get_total_flops()/2)
    return tuple(found)

def cores(ms, flops, speed):
    "Cores that decode as fast as a GPU of so many TFLOP/s computes: clips a second times seconds of CPU a clip"
    return speed*1e12/flops*ms/1000

def table(ms, speeds=SPEEDS):
    "Rows: what is done, GFLOP a clip, then for each speed clips a second and cores"
    return [(what, flops/1e9, *((s*1e12/flops, cores(ms, flops, s)) for s in speeds)) for what,flops in zip(('features, bank, test', 'training end to end'), operations())]

def film(path, n, h, w, gop, seed=0):
    "A moving picture of soft shapes of all sizes with a little noise, as a camera has it, and with its keyframes far apart"
    g,ground = np.random.default_rng(seed),np.zeros((h+n, w+3*n, 3))
    for k,amount in ((160, 90), (40, 45), (10, 20)):
        rough = Image.fromarray(g.integers(0, 256, ((h+n)//k+2, (w+3*n)//k+2, 3), dtype=np.uint8))
        ground += amount*(np.asarray(rough.resize((w+3*n, h+n), Image.Resampling.BICUBIC))/127.5 - 1)
    ground,noise = ground + 128,g.integers(-3, 4, (4, h, w, 1))
    with av.open(str(path), 'w') as out:
        s = out.add_stream('libx264', rate=25, options={'crf': '20', 'g': str(gop), 'preset': 'veryfast'})
        s.width,s.height,s.pix_fmt = w,h,'yuv420p'
        for i in range(n):
            image = ground[i//2:i//2+h,3*i:3*i+w] + noise[i%4]
            out.mux(s.encode(av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format='rgb24')))
        out.mux(s.encode())
    return path

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--clips', type=int, default=8); p.add_argument('--rounds', type=int, default=3)
    a = p.parse_args(args)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TQN_CACHE'] = folder+'/cache'
        n,view,g = 16*a.clips,TrainTransform(224),np.random.default_rng(1)
        big = Item('big', film(Path(folder, 'film.mp4'), n, 720, 1280, 250))
        if problem := cut_item(big, Path(folder), 256): raise SystemExit(problem)
        small = cut_path(Path(folder), big)
        print(f'{n} frames of 720 lines, a keyframe in 250: {big.path.stat().st_size/1e6:.1f} MB; made small: {small.stat().st_size/1e6:.1f} MB')
        starts = g.integers(0, n-8, a.clips).tolist()
        def whole(path, step=1):
            split_transform(view, open_video(path).clips(0, a.clips, 8, step), torch.Generator().manual_seed(0))
        def drawn(path):
            for i in starts: split_transform(view, open_video(path).frames(range(i, i+8)).permute(3, 0, 1, 2)[None], torch.Generator().manual_seed(0))
        runs = {'720 lines, clips in turn': lambda: whole(big.path), '256 lines, clips in turn': lambda: whole(small), '256 lines, one frame in two': lambda: whole(small, 2), '720 lines, drawn clips': lambda: drawn(big.path), '256 lines, drawn clips': lambda: drawn(small)}
        spent = {k: [] for k in runs}
        for f in runs.values(): f()
        for _ in range(a.rounds):                                              # in turns, so that a busy moment hits all of them
            for k,f in runs.items():
                begin = time.process_time(); f(); spent[k].append((time.process_time()-begin)/a.clips*1e3)
    ms = {k: float(np.median(v)) for k,v in spent.items()}
    for k,v in ms.items(): print(f'{k:28s} {v:6.2f} ms of CPU a clip ({min(spent[k]):.2f} to {max(spent[k]):.2f})')
    feed = ms['256 lines, clips in turn']
    print(f'cores for one GPU at {feed:.2f} ms of CPU a clip (arithmetic, not measured on a GPU):')
    for what,giga,*at in table(feed): print(f'{what:22s} {giga:6.1f} GFLOP a clip  ' + '  '.join(f'{s} TFLOP/s: {rate:,.0f} clips/s, {n:.1f} cores' for s,(rate,n) in zip(SPEEDS, at)))
    return {'a clip out of films of 256 lines, 455 wide, bytes for the device, ms of CPU': feed, 'the same, one frame in two, ms of CPU': ms['256 lines, one frame in two'],
            'films of 720 lines cut to 256, clips in turn, times as fast': ms['720 lines, clips in turn']/feed, 'films of 720 lines cut to 256, drawn clips, times as fast': ms['720 lines, drawn clips']/ms['256 lines, drawn clips']}

if __name__=='__main__': main()
