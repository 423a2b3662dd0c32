"""A random clip of eight frames of a long film, against a bare seek loop (open, seek, decode) in the same run, in CPU seconds.

    python tests/bench/bench_clips.py [--frames 9000] [--size 256] [--gop 16] [--clips 40] [--repeats 3]
"""
import argparse, os, tempfile, time
from pathlib import Path
import av
import numpy as np
from av.video.reformatter import VideoReformatter
from bench_video import film
from tqn.video.decode import scan
from tqn.video.video import Video, open_video

def bare(path, at, fps=25):
    "What one writes without a kit: open, seek to the keyframe before, decode until the frame comes; whether it is that frame, nobody asks"
    colour = VideoReformatter()
    with av.open(str(path)) as f:
        s = f.streams.video[0]
        s.codec_context.thread_count = 1
        f.seek(int(at/fps/s.time_base), stream=s)
        out = []
        for o in f.decode(s):
            if round(o.pts*s.time_base*fps)>=at: out.append(colour.reformat(o, format='rgb24', threads=1).to_ndarray())
            if len(out)==8: return np.stack(out)

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name,value in (('frames', 9000), ('size', 256), ('clips', 40), ('repeats', 3)): p.add_argument(f'--{name}', type=int, default=value)
    a = p.parse_args(args)
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TQN_CACHE'] = folder+'/cache'
        path = film(Path(folder, 'long.mp4'), a.frames, a.size, 0)
        starts = np.random.default_rng(0).integers(0, a.frames-8, a.clips).tolist()
        def kit(i): return open_video(path).frames(range(i, i+8)).numpy()
        ways = {'bare seek loop': lambda i: bare(path, i), 'open_video': kit, 'open_video, scanned': kit, 'a new Video each': lambda i: Video(path, 'pyav').frames(range(i, i+8)).numpy()}
        spent = {name: [] for name in ways}
        for name in ways:
            if name.endswith('scanned'): scan(path)
            for _ in range(a.repeats):
                cpu = time.process_time()
                for i in starts: ways[name](i)
                spent[name].append((time.process_time()-cpu)/a.clips)
        for i in starts[:5]: assert np.array_equal(bare(path, i), kit(i))
        base = np.median(spent['bare seek loop'])
        print(f'{a.clips} random clips of a film of {a.frames} frames at {a.size} x {a.size}; medians of {a.repeats}')
        for name,o in spent.items(): print(f'{name:20} {np.median(o)*1e3:7.2f} ms of CPU a clip; speed {base/np.median(o):.2f} of the bare loop')
        return {f'a random clip of a film of {a.frames} frames, speed of a bare seek loop': base/np.median(spent['open_video'])}

if __name__=='__main__': main()
