"""Large tables, in CPU seconds: 20,000 rows against a bare read (csv, join, look whether the file is there, an `Item`), GRID's 33,000 films (empty files: nothing is decoded), lengths of films against opening each, and 2,000 rows with a typing error against 1,200 known answers.

    python tests/bench/bench_rows.py [--rows 20000] [--films 200] [--repeats 3]
"""
import argparse, csv, itertools, os, tempfile, time
from pathlib import Path
import numpy as np
from bench_video import film
from tqn.data.items import Item, open_item, read_manifest, shorter_than
from tqn.data.check import check
from tqn.data.published import open_data
from tqn.questions.queries import QuerySet
from tqn.video.decode import scan

def bare(path):
    "A table as one reads it without a kit"
    out = []
    with open(path, newline='', encoding='utf-8') as f:
        for r in csv.DictReader(f):
            full = os.path.join(path.parent, r['path'])
            if not os.path.exists(full): raise FileNotFoundError(full)
            out.append(Item(r['path'], full, {k: r[k] for k in 'abc'}, split=r['split']))
    return out

def timed(f, repeats):
    spent = []
    for _ in range(repeats): cpu = time.process_time(); f(); spent.append(time.process_time()-cpu)
    return min(spent)

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name,value in (('rows', 20000), ('films', 200), ('repeats', 3)): p.add_argument(f'--{name}', type=int, default=value)
    a = p.parse_args(args)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.environ['TQN_CACHE'] = str(folder/'cache')
        (folder/'films').mkdir()
        table,typos = folder/'table.csv',folder/'typos.csv'
        with open(table, 'w', newline='') as f:
            w = csv.writer(f); w.writerow(['path', 'split', *'abc'])
            for i in range(a.rows):
                name = f'films/{i%100}/{i}.mp4'
                (folder/name).parent.mkdir(exist_ok=True); (folder/name).touch()
                w.writerow([name, 'val' if i%10==0 else 'train', str(i%5), 'x'*(i%3+1), 'yes'])
        base,read,opened = timed(lambda: bare(table), a.repeats),timed(lambda: read_manifest(table), a.repeats),timed(lambda: open_data(table), a.repeats)
        print(f'{a.rows} rows: bare {base:.2f} s, read_manifest {read:.2f} s, {read/base:.1f} times that, open_data {opened:.2f} s, {opened/base:.1f} times that')
        found[f'{a.rows} rows opened, times a bare read'] = opened/base
        names = [''.join(n) for n in itertools.islice(itertools.product('blps', 'bgrw', 'abiw', 'abcdefghijklmnopqrstuvxyz', 'z123456789', 'anps'), 0, None, 64)][:1000]
        for s in range(1, 34):
            (folder/'grid'/f's{s}').mkdir(parents=True)
            for n in names: (folder/'grid'/f's{s}'/f'{n}.mpg').touch()
        corpus = timed(lambda: open_data(folder/'grid'), 1)
        print(f'GRID, {33*len(names)} films: {corpus:.2f} s')
        found[f'{33*len(names)} films of GRID opened, seconds'] = corpus
        one = film(folder/'one.mp4', 60, 64, 0)
        films = [folder/f'f{i}.mp4' for i in range(a.films)]
        for o in films: o.write_bytes(one.read_bytes())
        items = [Item(o.stem, o) for o in films]
        bare_s = timed(lambda: [len(open_item(o)) for o in items], a.repeats)/a.films
        for o in films: scan(o, prove=False)
        kept = timed(lambda: shorter_than(items, 128), a.repeats)/a.films
        print(f'length of a film: {bare_s*1e3:.2f} ms opened, {kept*1e3:.2f} ms where it was scanned, so {kept*a.rows:.1f} s for {a.rows} films')
        found['length of a scanned film, times as fast as opening it'] = bare_s/kept
        queries = QuerySet({'move': [f'answer number {i} of the kind' for i in range(1200)]})
        with open(typos, 'w', newline='') as f:
            w = csv.writer(f); w.writerow(['path', 'split', 'move'])
            for i in range(2000): w.writerow([f'{i}.mp4', 'train', f'answer numbr {i%1200} of the kind'])
        def read_and_check():
            table = read_manifest(typos, queries)
            return str(check(table.items, queries, typos, table.lines, table.problems, progress=False))
        said = timed(read_and_check, 1)
        print(f'2,000 typing errors against 1,200 answers, read, checked and printed: {said:.2f} s')
        found['2,000 typing errors against 1,200 answers, seconds'] = said
    return found

if __name__=='__main__': main()
