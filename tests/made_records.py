"Records of any number of videos, made up: for tests and benchmarks of what shows them"
import numpy as np
from tqn.attention.records import Records

NAMES = 'approach', 'takeoff', 'somersault', 'twist', 'position', 'entry', 'class'
ANSWERS = {'takeoff': ['Back', 'Forward', 'Inward', 'Reverse'], 'twist': ['NoTwis', '05Twis', '1Twis', '15Twis', '25Twis'],
           'class': [f'Back 15som {i}Twis PIKE' for i in range(12)]}

def made(n, names=NAMES, m=48, seed=0):
    "n videos: 80% of the answers right, 5% without a truth, attention with one peak"
    g, k = np.random.default_rng(seed), len(names)
    labels = {q: ANSWERS.get(q, [f'{q[:3].title()}{i}' for i in range(5)]) for q in names}
    draw = lambda: np.stack([g.integers(0, len(labels[q]), n) for q in names], 1)
    truth = draw()
    said = np.where(g.random((n, k)) < .8, truth, draw())
    right, p = (said == truth).astype(int), g.beta(5, 1.4, (n, k))
    loss, unknown = np.where(right == 1, -np.log(p), 1.3 - np.log(np.maximum(1 - p, 1e-3))), g.random((n, k)) < .05
    right[unknown], truth[unknown], loss[unknown] = -1, -1, np.nan
    centre, width = g.uniform(4, m-4, (n, k, 1)), g.uniform(1, 5, (n, k, 1))
    strips = np.empty((n, k, m), np.uint8)
    for i in range(n): strips[i] = 255*np.maximum(np.exp(-.5*((np.arange(m) - centre[i])/width[i])**2), .06)
    columns = dict(said=said, truth=truth, p=p, loss=loss, entropy=1-p, heads=g.random((n, k))**2, right=right, readings=g.random(n),
                   clips=g.integers(8, 60, n), strips=strips)
    return Records([f'dive_{i:05d}' for i in range(n)], list(names), labels, {}, columns)
