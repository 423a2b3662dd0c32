"""Scanning as `tqn check` does, against the raw decode speed of the reader (`Video.frames` over all frames, PyAV strict), in CPU seconds.

    python tests/bench/bench_check.py [--films 6] [--size 256] [--frames 150] [--repeats 5]
"""
import argparse, os, tempfile, time
from pathlib import Path
import numpy as np
from bench_video import film
from tqn.data.check import check, scan_item
from tqn.data.items import Item
from tqn.video.video import Video
from tqn.video.decode import scan

def decode(path):
    "All frames as they are read for training, a batch at a time"
    video = Video(path, 'pyav', check=False)
    for k in range(0, len(video), 32): video.frames(range(k, min(k+32, len(video))))

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name,value in (('films',6), ('size',256), ('frames',150), ('repeats',5)): p.add_argument(f'--{name}', type=int, default=value)
    a = p.parse_args(args)
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TQN_CACHE'] = folder+'/cache'
        films = [film(Path(folder, f'{i}.mp4'), a.frames, a.size, i) for i in range(a.films)]
        ways = {'reader': decode, 'scan': lambda f: scan(f, prove=False, again=True), 'excerpt': lambda f: scan_item(Item('x', f, start=0., end=a.frames/25))}
        spent = {name: [] for name in ways}
        for _ in range(a.repeats):                               # taking turns, so that a busy machine is unfair to all alike
            for name,f in ways.items():
                for o in films:
                    cpu = time.process_time(); f(o); spent[name].append(time.process_time()-cpu)
        base = np.median(spent['reader'])
        print(f'{a.films} films of {a.frames} frames at {a.size} x {a.size}; medians of {a.repeats*a.films}')
        for name,o in spent.items(): print(f'{name:8} {a.frames/np.median(o):7.0f} frames per CPU second; {base/np.median(o):.2f} of the reader')
        os.environ['TQN_CACHE'] = folder+'/cold'
        cpu = time.process_time(); report = check([Item(str(i), f) for i,f in enumerate(films)], progress=False); cpu = time.process_time()-cpu
        print(f'tqn check, whole command: {report.frames/cpu:.0f} frames per CPU second; {base*a.films/cpu:.2f} of the reader')
        assert report.ok
        return {'tqn check, speed of the reader alone': base*a.films/cpu}

if __name__=='__main__': main()
