"""Reading whole short films: `Video.frames(range(n))` against a bare PyAV loop, in one run, in CPU seconds (and wall seconds).

    python tests/bench/bench_video.py [--films 8] [--size 96] [--frames 210] [--repeats 7]
"""
import argparse, os, tempfile, time
from pathlib import Path
import av
import numpy as np
from av.video.reformatter import VideoReformatter
from tqn.video.video import Video, write_video
from tqn.video.decode import scan

def film(path, n, size, seed):
    ground = np.random.default_rng(seed).integers(0, 255, (size//8,size//8,3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    def frames():
        for i in range(n):
            image = np.roll(ground, i, 1)
            y = int(size*.3*(1+np.sin(i/7)))
            image[y:y+size//8, i%(size-size//8):][:, :size//8] = 255
            yield image
    write_video(path, frames())
    return path

def bare(path):
    "The fastest plain loop there is: one decoder, one converter, no checks"
    colour = VideoReformatter()
    with av.open(str(path)) as f:
        s = f.streams.video[0]
        s.codec_context.thread_count = 1
        return np.stack([colour.reformat(o, format='rgb24', threads=1).to_ndarray() for o in f.decode(s)])

def usual(path):
    "What most people write"
    with av.open(str(path)) as f: return np.stack([o.to_ndarray(format='rgb24') for o in f.decode(video=0)])

def whole(path):
    video = Video(path, 'pyav')
    return video.frames(range(len(video)))

def by_clips(path):
    video = Video(path, 'pyav')
    return [video.clips(i, 1) for i in range(video.n_clips())]

def decord(path):
    video = Video(path, 'decord')
    return video.frames(range(len(video)))

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name,value in (('films',8), ('size',96), ('frames',210), ('repeats',7)): p.add_argument(f'--{name}', type=int, default=value)
    a = p.parse_args(args)
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TQN_CACHE'] = folder+'/cache'
        films = [film(Path(folder, f'{i}.mp4'), a.frames, a.size, i) for i in range(a.films)]
        ways = {'bare PyAV': bare, 'Video, whole': whole, 'Video, clip by clip': by_clips, 'PyAV, to_ndarray': usual}
        proved = scan(films[0])
        if proved.engine=='decord':
            for o in films: scan(o)
            ways['Video, decord'] = decord
        else: print(f'decord is not used: {proved.reason[:100]}')
        spent = {name: [] for name in ways}
        for _ in range(a.repeats):                               # taking turns, so that a busy machine is unfair to all alike
            for name,f in ways.items():
                for o in films:
                    cpu,wall = time.process_time(),time.perf_counter()
                    f(o)
                    spent[name].append((time.process_time()-cpu, time.perf_counter()-wall))
        base,found = np.median(spent['bare PyAV'], 0),{}
        print(f'{a.films} films of {a.frames} frames at {a.size} x {a.size}; medians of {a.repeats*a.films} reads')
        for name,o in spent.items():
            cpu,wall = np.median(o, 0)
            found[f'{name}, films of {a.size} pixels, speed of a bare PyAV loop'] = base[0]/cpu
            print(f'{name:20} {a.frames/cpu:7.0f} frames per CPU second, {cpu*1e3:6.1f} ms a film; speed {base[0]/cpu:.2f} of bare ({base[1]/wall:.2f} by the wall clock)')
        return {k: v for k,v in found.items() if 'Video, whole' in k or 'decord' in k}

if __name__=='__main__': main()
