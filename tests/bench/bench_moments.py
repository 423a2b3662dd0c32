"""Moments of long films: what hiding each span and asking again costs, beside asking about as many copies of the film.

    python tests/bench/bench_moments.py [--films 6] [--clips 600] [--width 1008]

Six questions, queries behind three convolutions, as on GRID set into waiting. Both ways in one run, in CPU seconds, and their numbers agree.
"""
import argparse, time
import numpy as np

def main(args=None):
    "{what: figure}"
    import torch
    from tqn.attention.moments import Finder, moments
    from tqn.data.items import Item
    from tqn.models.tqn import TQN
    from tqn.questions.queries import QuerySet
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--films', type=int, default=6); p.add_argument('--clips', type=int, default=600); p.add_argument('--width', type=int, default=1008)
    a = p.parse_args(args)
    torch.manual_seed(0)
    queries = QuerySet({f'q{i}': ['a','b','c','d'] for i in range(6)})
    model = TQN(queries, d_features=a.width, d_model=128, n_layers=1, n_heads=4, convolution=5, n_convs=3).eval()
    films = {f'film{i}': torch.randn(a.clips, a.width) for i in range(a.films)}
    items = [Item(k, None, n_frames=a.clips*8) for k in films]
    def ask(**kw):
        began = time.process_time()
        table = moments(model, items, features=films, finder=Finder(least=1., smooth=2.), progress=False, **kw)
        return table, (time.process_time()-began)/a.films*1000
    ask(needed=False)
    (once,fast),(_,bare) = ask(),ask(needed=False)
    model.decoder.versions = False
    copied,slow = ask()
    np.testing.assert_allclose(once[['needed','elsewhere']].to_numpy(), copied[['needed','elsewhere']].to_numpy(), atol=1e-6)
    print(f'1,000 films of {a.clips} clips: {bare:.0f} CPU s without needed, {fast:.0f} with, {slow:.0f} by copies of the film')
    return {f'moments of films of {a.clips} clips with needed, times as fast as by copies of the film': slow/fast}

if __name__ == '__main__': main()
