"""`tqn.view` of a film of three hours, in CPU seconds: until it is shown, and until all of it is read, against a bare loop that decodes it (one network of one layer, so that neither its size nor its speed is measured).

    python tests/bench/bench_long.py [--frames 108000] [--height 48] [--codec libx264] [--texture] [--crf 30]

A film that browsers do not play, `--codec mpeg4`, is also encoded once more; that is in the figure, too. One of more than 256 MB (108,000 frames with `--texture --crf 23`) is sent in stretches, as they are looked at.
"""
import argparse, os, tempfile, time
from pathlib import Path
import av
import numpy as np
import torch
from torch import nn
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.widgets.viewer import view

class Mean(nn.Module):
    "The mean colour"
    d_out = 3
    def forward(self, x): return x.mean((2, 3, 4))

def write(path, n, h, codec, texture, crf):
    "A film whose pictures change: as cheap as can be, or with texture that moves, as films have"
    ground = np.random.default_rng(0).integers(0, 255, (-(-h//8),-(-h*4//24),3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)[:h,:h*4//3]
    with av.open(str(path), 'w') as f:
        s = f.add_stream(codec, rate=10, options={'g': '50', **({'preset': 'ultrafast', 'crf': str(crf)} if codec=='libx264' else {})})
        s.width,s.height,s.pix_fmt = h*4//3,h,'yuv420p'
        for i in range(n):
            image = np.roll(ground, i, 1) if texture else np.full((h, h*4//3, 3), (i*3%200, i*7%200, 90), np.uint8)
            image[:,i%h:i%h+8] = 250
            for p in s.encode(av.VideoFrame.from_ndarray(image, format='rgb24')): f.mux(p)
        for p in s.encode(): f.mux(p)

def bare(path):
    "Every frame, as RGB, in one thread; CPU seconds"
    begin = time.process_time()
    with av.open(str(path)) as f:
        to,f.streams.video[0].codec_context.thread_count = av.video.reformatter.VideoReformatter(),1
        for frame in f.decode(video=0): to.reformat(frame, format='rgb24', threads=1).to_ndarray()
    return time.process_time()-begin

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--frames', type=int, default=108000); p.add_argument('--height', type=int, default=48); p.add_argument('--codec', default='libx264'); p.add_argument('--texture', action='store_true'); p.add_argument('--crf', type=int, default=30)
    a = p.parse_args(args)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TQN_CACHE'] = str(Path(folder)/'cache')
        write(path := Path(folder)/('film.mp4' if a.codec=='libx264' else 'film.avi'), a.frames, a.height, a.codec, a.texture, a.crf)
        clock = time.process_time
        bases = [bare(path) for _ in range(3)]
        model = TQN(QuerySet({'way': ['left', 'right'], 'colour': ['red', 'blue']}), backbone=Mean(), d_model=32, n_layers=2, n_heads=2).eval()
        model.preprocess = dict(clip_len=8, stride=1, size=a.height, resize=a.height)
        begin = clock()
        viewer = view(model, path, wait=False)
        if viewer.error: raise SystemExit(viewer.error)
        viewer._repr_mimebundle_()
        shown = clock()-begin
        viewer.wait()
        read = clock()-begin
        base = float(np.median(bases := bases+[bare(path) for _ in range(3)]))
        print(f'{path.stat().st_size>>20} MB; {a.frames} frames of {a.height} lines: decoded {base:.1f} s ({min(bases):.1f} to {max(bases):.1f}, {base/a.frames*1e3:.3f} ms a frame), shown after {shown:.1f} s, read after {read:.1f} s, {read/base:.1f} times decoding')
    kind = f'a film of {a.frames} frames of {a.height} lines{" with texture" if a.texture else ""}'
    return {f'view of {kind}, CPU seconds until it is shown': shown, f'view of {kind} until all is read, times decoding': read/base}

if __name__ == '__main__': main()
