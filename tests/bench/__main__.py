"""All benchmarks that print a ratio, one after the other, each in a process of its own, and one table of them: tests/bench/results.md.

    python -m tests.bench [NAME ...] [--out FILE]      with names, the other lines of the table stay

Half an hour on two cores. Ratios are taken within one run, in CPU seconds, so that a busy machine is unfair to both sides alike. They never gate.
"""
import argparse, json, os, platform, re, subprocess, sys, time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNS = { # name: file, arguments
    'threads': ('bench_threads', ['--repeats', '1', '--steps', '3']), 's3d': ('bench_s3d', ['--batches', '1', '16']), 'clips': ('bench_clips', []), 'rows': ('bench_rows', []),
    'video': ('bench_video', ['--films', '4', '--size', '256', '--frames', '120']), 'long': ('bench_long', ['--frames', '10800', '--height', '240', '--texture']), 'hours': ('bench_long', ['--frames', '108000', '--height', '240', '--texture', '--crf', '23']), 'flat': ('bench_long', ['--frames', '10800', '--height', '240']), 'memory': ('bench_bank', ['memory']), 'sufb': ('bench_sufb', []), 'check': ('bench_check', ['--films', '4']), 'transforms': ('bench_transforms', ['--clips', '4', '--rounds', '3']), 'load': ('bench_load', []),
    '720p': ('bench_720p', []), 'moments': ('bench_moments', ['--films', '6']), 'viewer': ('bench_viewer', []), 'cores': ('bench_cores', [])}
WANTED = { # a part of a line's name: what issue 16 of the kit's own list wants
    '13 questions': 10., 'times the floor': 1.1, 'without a backbone, 2 videos': 6., 'batch 1, times': 2.5, 'in bf16': 1.9, 'random clip': 1., 'rows opened': 1.5, 'films of GRID': 5., 'memory of': 1.1, 'until it is shown': 5., 'until all is read': 3., 'typing errors': 2., 'load and augment': 5., 'for a GPU, ms': 5.5, 'fast, speed of a bare reader with torch': 1., 'busy processes': 1., 'the cell itself': 1000., 'first paint': 1000., 'right frame': 100., 'what-if to new': 150., 'bytes beyond': 2., 'JavaScript': 60.}

def machine():
    "What the figures belong to"
    model = next((re.sub(r'\s+', ' ', l.split(':')[1].strip()) for l in open('/proc/cpuinfo') if l.startswith('model name')), '') if os.path.exists('/proc/cpuinfo') else ''
    return f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, " + ', '.join(f'{n} {version(n)}' for n in ('torch', 'av', 'numpy'))

def busy(): return f'{os.getloadavg()[1]:.1f}' if hasattr(os, 'getloadavg') else ''   # processes that wanted a core

def run(name):
    "The figures of one benchmark"
    file,args = RUNS[name]
    code = f'import json, sys; sys.path.insert(0, {str(HERE)!r}); import {file}; found = {file}.main({args!r}); print("\\n" + json.dumps(found))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, [str(HERE.parents[1]), os.environ.get('PYTHONPATH')]))})
    if done.returncode: raise SystemExit(f'{name} failed:\n{done.stderr[-2000:]}')
    print(done.stdout.rsplit('\n', 2)[0], flush=True)
    return json.loads(done.stdout.strip().splitlines()[-1])

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('names', nargs='*', help=f'some of {", ".join(RUNS)}; all by default'); p.add_argument('--out', type=Path, default=HERE/'results.md')
    a = p.parse_args()
    if wrong := [n for n in a.names if n not in RUNS]: p.error(f'there is no benchmark {wrong[0]!r}; there are {", ".join(RUNS)}')
    began,rows = time.time(),{}
    if a.names and a.out.is_file():                                             # the others stay
        rows = {l.split(' | ')[0][2:]: l for l in a.out.read_text().splitlines() if re.match(r'\| .* \| -?[0-9]', l)}
    for name in a.names or RUNS:
        print(f'== {name}', flush=True)
        for what,value in run(name).items():
            want = next((f'{w:g}' for part,w in WANTED.items() if part in what), '')
            rows[what] = f'| {what} | {value:.2f} | {want} | {busy()} |'
        head = ['# What `python -m tests.bench` printed', '', f'{machine()}; {time.strftime("%Y-%m-%d")}. *Busy*: how many processes wanted a core when the line was measured.', '', '| benchmark | figure | wanted | busy |', '|---|---|---|---|']
        a.out.write_text('\n'.join([*head, *rows.values()]) + '\n')
    print(f'{a.out} ({time.time()-began:.0f} s)')

if __name__ == '__main__': main()
