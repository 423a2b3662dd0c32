"""Films of 720p to clips of 224 pixels: a bare reader (decode, RGB at full size, resize; no index, no checks) against `scaling='exact'` and `'fast'`, in turns in one run, one thread, CPU seconds.

    python tests/bench/bench_720p.py [--rounds 5] [--frames 96]

Films are those of 720p that lie in ../shared/videos, and one of there brought to 720p; without them two are rendered. `torch` resizes the RGB that PyAV gives, as fast as it can; `PIL` is what most people write.
"""
import argparse, os, tempfile, time
from pathlib import Path
import av
import numpy as np, torch
from av.video.reformatter import VideoReformatter
from PIL import Image
from tqn.video.decode import VideoError
from tqn.video.transforms import EvalTransform, TrainTransform, clip_grid
from tqn.video.video import Video, view_clips, write_video

SHARED = Path(__file__).resolve().parents[3]/'shared'/'videos'
H,W = 720,1280

def frames_of(path, most):
    "RGB frames, one converter"
    colour = VideoReformatter()
    with av.open(str(path)) as f:
        s = f.streams.video[0]
        s.codec_context.thread_count = 1
        for o,_ in zip(f.decode(s), range(most)): yield colour.reformat(o, format='rgb24', threads=1).to_ndarray()

def bare_torch(path, most):
    "A few frames at a time, in the layout that torch is fastest in"
    out,part = [],[]
    for o in frames_of(path, most):
        part.append(torch.from_numpy(o))
        if len(part)==8: out.append(small(part)); part = []
    return torch.cat(out+([small(part)] if part else []))

def small(part): return torch.nn.functional.interpolate(torch.stack(part).permute(0, 3, 1, 2), (256, round(W*256/H)), mode='bilinear', antialias=True)[...,16:240,115:339].contiguous()

def bare_pil(path, most): return np.stack([np.asarray(Image.fromarray(o).resize((455, 256), Image.BILINEAR))[16:240,115:339] for o in frames_of(path, most)])

def rendered(seed, n):
    "A film with a smooth ground that moves, and fine texture"
    g = np.random.default_rng(seed)
    ground = np.asarray(Image.fromarray(g.integers(0, 255, (18,40,3)).astype(np.uint8)).resize((W+256,H), Image.BICUBIC)).astype(int)
    ground = (ground + g.integers(-6, 7, (H,W+256,1))).clip(0, 255).astype(np.uint8)
    for i in range(n): yield ground[:,2*i%256:2*i%256+W]

def films(folder, n):
    "Names and files"
    found = {}
    for path in sorted(SHARED.glob('*.m[pk][4v]')):
        try:
            video = Video(path)
            if video.size==(H,W) and len(video)>=24: found['as it is'] = path
        except VideoError: pass
    tall = SHARED/'vfeat__v_ZNVhz7ctTq0.mp4'
    if tall.is_file():
        write_video(folder/'film.mp4', (np.asarray(Image.fromarray(o[45:315]).resize((W,H), Image.LANCZOS)) for o in frames_of(tall, n)), crf=23, gop=48, preset='veryfast')
        found['brought to 720p'] = folder/'film.mp4'
    if not found:
        write_video(folder/'made.mp4', rendered(0, n), crf=23, gop=48, preset='veryfast')
        found['rendered'] = folder/'made.mp4'
    return found

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--rounds', type=int, default=5); p.add_argument('--frames', type=int, default=96)
    a = p.parse_args(args)
    torch.set_num_threads(1)
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TQN_CACHE'] = folder+'/cache'
        for name,path in films(Path(folder), a.frames).items():
            n = min(len(Video(path)), a.frames)
            def tqn(view, scaling, path=path, n=n): return next(view_clips(Video(path), clip_grid(n), [view(224, scaling=scaling)], [torch.Generator().manual_seed(0)]))[0]
            ways = {'bare, torch': lambda: bare_torch(path, n), 'bare, PIL': lambda: bare_pil(path, n), **{f'{k}, {s}': lambda v=v, s=s: tqn(v, s) for k,v in (('clean view', EvalTransform), ('training', TrainTransform)) for s in ('exact', 'fast')}}
            times = {k: [] for k in ways}
            for f in ways.values(): f()
            for _ in range(a.rounds):                                 # taking turns, so that a busy machine is unfair to all alike
                for k,f in ways.items():
                    began = time.process_time(); f(); times[k].append((time.process_time()-began)/n*1e3)
            far = (tqn(EvalTransform, 'exact').int()-tqn(EvalTransform, 'fast').int()).abs()
            best = {k: np.median(v) for k,v in times.items()}
            for k,v in best.items(): print(f'film {name}, {n} frames: {k:18} {v:6.2f} ms of CPU a frame ({min(times[k]):.2f} to {max(times[k]):.2f})')
            print(f'film {name}: fast is {far.float().mean():.2f} of 255 from exact, at most {far.max()}')
            for k in ('clean view', 'training'):
                for s in ('exact', 'fast'): result[f'film of 720p {name}, {k}, {s}, speed of a bare reader with torch'] = best['bare, torch']/best[f'{k}, {s}']
            result[f'film of 720p {name}, clean view, fast, speed of a bare reader with PIL'] = best['bare, PIL']/best['clean view, fast']
    for k,v in result.items(): print(f'{k}: {v:.2f}')
    return result

if __name__=='__main__': main()
