"""Loading and augmenting clips of 224 pixels from films and from folders of JPEG, the model left out, against the usual way (every frame a PIL image), in turns in one run, one thread, CPU seconds.

    python tests/bench/bench_load.py [--clips 8] [--rounds 5]

`for a GPU` is what a process that reads does where the colours are the device's: bytes, decoded and cropped.
"""
import argparse, os, tempfile, time
from pathlib import Path
import av
import numpy as np, torch
from PIL import Image
from bench_transforms import pil_recipe
from tqn.video.transforms import EvalTransform, TrainTransform, split_transform
from tqn.video.video import open_video, write_video

H,W = 256,340

def usual_film(path):
    with av.open(str(path)) as f: return np.stack([np.asarray(o.to_image()) for o in f.decode(video=0)])

def usual_folder(path): return np.stack([np.asarray(Image.open(p).convert('RGB')) for p in sorted(path.iterdir())])

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--clips', type=int, default=8); p.add_argument('--rounds', type=int, default=5)
    a = p.parse_args(args)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TQN_CACHE'] = folder+'/cache'
        ground = np.random.default_rng(0).integers(0, 255, (H//8,W//8+1,3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)[:,:W]
        frames = [np.roll(ground, 2*k, 1) for k in range(8*a.clips)]
        film,stills = Path(folder, 'film.mp4'),Path(folder, 'film')
        write_video(film, frames); stills.mkdir()
        for i,f in enumerate(frames): Image.fromarray(f).save(stills/f'{i:05d}.jpg', quality=90)
        train,clean = TrainTransform(),EvalTransform()
        def gen(): return torch.Generator().manual_seed(0)
        runs = {}
        for kind,path,usual in (('mp4', film, usual_film), ('JPEG', stills, usual_folder)):
            def read(path=path): return open_video(path).clips(0, a.clips)
            runs |= {f'{kind}, usual way': lambda path=path, usual=usual: pil_recipe(usual(path), 224, a.clips, gen()), f'{kind}, tqn': lambda read=read: train(read(), gen()),
                     f'{kind}, tqn, for a GPU': lambda read=read: split_transform(train, read(), gen()), f'{kind}, tqn, clean view': lambda read=read: clean(read()), f'{kind}, tqn, read only': read}
        times = {k: [] for k in runs}
        for f in runs.values(): f()
        for _ in range(a.rounds):          # in turns, so that a busy moment of the machine hits all of them
            for k,f in runs.items():
                start = time.process_time(); f(); times[k].append((time.process_time()-start)/a.clips*1e3)
    best = {k: np.median(v) for k,v in times.items()}
    for k,v in best.items(): print(f'{k:26s} {v:6.2f} ms of CPU a clip of 8 frames ({min(times[k]):.2f} to {max(times[k]):.2f})')
    found = {}
    for kind in ('mp4', 'JPEG'):
        for what in ('tqn', 'tqn, for a GPU'): found[f'load and augment {kind}{what[3:]}, times as fast as frame by frame with PIL'] = best[f'{kind}, usual way']/best[f'{kind}, {what}']
    found['load a clip of mp4 for a GPU, ms of CPU'] = best['mp4, tqn, for a GPU']
    for k,v in found.items(): print(f'{k}: {v:.2f}')
    return found

if __name__=='__main__': main()
