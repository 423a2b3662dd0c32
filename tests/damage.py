"""Damaged copies of small films, made with fixed seeds, and what the reader does with them under its default: right, refused, or wrong without a word.

    python tests/damage.py [--seeds 150] [--kinds closed.mp4 av1.mp4 ...] [--save FILE]

Every copy is read in a process of its own kind, with a limit: six frames of each, out of order. `tests/test_damage.py` runs a few hundred of them; the table of all stands in nbs/03_video/01_decode.
"""
import argparse, json, os, subprocess, sys, tempfile, time, zlib
from collections import Counter
from pathlib import Path
import av
import numpy as np
from test_video import GOP, KINDS, make, sums, truth
from tqn.video.decode import VideoError
from tqn.video.video import Video, write_video

FILMS = {**{k: KINDS[k] for k in ('closed.mp4', 'open.mkv', 'open.ts', 'fragments.mp4', 'bframes.avi', 'film.mpg', 'vp8.webm', 'vp9.webm', 'hevc.mp4')},
    'av1.mp4': dict(codec='libsvtav1', options={'preset':'8'}), 'av1.mkv': dict(codec='libsvtav1', options={'preset':'8'}), 'ffv1.mkv': dict(codec='ffv1'), 'ffv1.avi': dict(codec='ffv1', options={'level':'3', 'slicecrc':'1'}),
    'ffv1_old.avi': dict(codec='ffv1', options={'level':'1'}), 'mjpeg.avi': dict(codec='mjpeg', pix='yuvj420p'), 'sealed.mp4': None}

def film(folder, name, n=40):
    "A film of one kind; None where this PyAV cannot write it"
    path = folder/name
    try:
        if FILMS[name] is None: write_video(path, (np.roll(np.kron(np.random.default_rng(0).integers(0, 255, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8), i, 1) for i in range(n)))
        else: make(path, n=n, **FILMS[name])
    except (av.error.EncoderNotFoundError, av.codec.codec.UnknownCodecError): return None
    return path

def copies(data, seeds):
    "(what was done, bytes) of damaged copies: one bit, many bits, an end that is missing, zeros and noise in the middle"
    for seed in range(seeds):
        rng,b = np.random.default_rng(seed),bytearray(data)
        b[int(rng.integers(len(b)))] ^= 1<<int(rng.integers(8))
        yield 'one bit', b
    for seed in range(max(1, seeds//5)):
        rng,b = np.random.default_rng(1000+seed),bytearray(data)
        for at in rng.integers(0, len(b), max(16, len(b)//4000)): b[int(at)] ^= 1<<int(rng.integers(8))
        yield 'many bits', b
        yield 'cut', data[:int(len(data)*rng.uniform(.05, .995))]
        at,n = int(rng.integers(len(data)//8, len(data)*3//4)),len(data)//8
        yield 'a hole', data[:at]+bytes(n)+data[at+n:]
        yield 'noise', data[:at]+rng.bytes(n)+data[at+n:]

def read(folder):
    "In a process of its own: read every copy that names.json lists, one line each"
    for name,want in json.loads(Path(folder, 'names.json').read_text()):
        print(json.dumps([name, fate(Path(folder, name), want)]), flush=True)

def fate(path, want):
    "What became of a copy"
    try:
        video = Video(path)
        n = len(video)
        at = [0, n-1, *np.random.default_rng(0).integers(0, n, 4).tolist()]
        got = []
        for i in at:
            try: got.append(sums(video.frames([i]))[0])
            except VideoError: got.append(None)
        if any(o is not None and (i>=len(want) or o!=want[i]) for i,o in zip(at, got)): return 'wrong'
        if None in got: return 'refused in part' if any(o is not None for o in got) else 'refused'
        return 'right' if n==len(want) else 'shorter'
    except VideoError: return 'refused'
    except BaseException as e: return f'other: {e!r}'

def run(names, seeds, limit=600):
    "{name: {what was done: Counter of fates}}"
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in names:
            if (path := film(folder, name)) is None: continue
            want,listed,done = truth(path),[],{}
            for k,(what,b) in enumerate(copies(path.read_bytes(), seeds)):
                copy = f'{k}-{name}'
                (folder/copy).write_bytes(b); listed.append((copy, want)); done[copy] = what
            (folder/'names.json').write_text(json.dumps(listed))
            env = {**os.environ, 'TQN_CACHE': str(folder/'cache')}
            out = subprocess.run([sys.executable, __file__, '--read', str(folder)], capture_output=True, text=True, timeout=limit, env=env)      # a hang ends here
            got = dict(json.loads(o) for o in out.stdout.splitlines() if o.startswith('["'))
            found[name] = {}
            for copy,what in done.items(): found[name].setdefault(what, Counter())[got.get(copy, 'crash')] += 1
            for copy in done: (folder/copy).unlink()
    return found

def table(found):
    "The fates as a table of markdown"
    lines = ['| film | copies | right | refused | refused in part | **wrong, no word** | of those, one bit | crash, hang |', '|---|---|---|---|---|---|---|---|']
    for name,kinds in found.items():
        all = sum(kinds.values(), Counter())
        lines.append(f"| {name} | {sum(all.values())} | {all['right']} | {all['refused']} | {all['refused in part']} | {all['wrong']+all['shorter']} | {kinds['one bit']['wrong']} | {sum(v for k,v in all.items() if k=='crash' or k.startswith('other'))} |")
    return '\n'.join(lines)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--seeds', type=int, default=150); p.add_argument('--kinds', nargs='+', default=list(FILMS)); p.add_argument('--save', type=Path); p.add_argument('--read')
    a = p.parse_args()
    if a.read: return read(a.read)
    began = time.time()
    found = run(a.kinds, a.seeds)
    print(table(found)); print(f'{time.time()-began:.0f} s')
    for name,kinds in found.items():
        for what,c in kinds.items():
            if c['wrong']+c['shorter'] or any(k=='crash' or k.startswith('other') for k in c): print(f'{name}, {what}: {dict(c)}')
    if a.save: a.save.write_text(table(found)+'\n')

if __name__=='__main__': main()
