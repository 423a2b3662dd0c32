"Costs have bounds: a file of settings, a figure and a file of scores stay of a size that a person can wait for"
import io, json, time
import matplotlib; matplotlib.use('Agg')
from matplotlib import pyplot as plt
import numpy as np, pytest, torch
from tqn.attention.figure import draw_heat
from tqn.attention.localise import ClipMaps, localise, plot_localisation
from tqn.attention.scores import Evaluation, plot_confusion, plot_scores
from tqn.models.decoder import LARGEST, QueryDecoder
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet

@pytest.fixture(autouse=True)
def no_figures(): yield; plt.close('all')

def saved(folder, **changes):
    TQN(QuerySet({'q': ['a', 'b']}), d_model=8, n_layers=1, n_heads=2).save_pretrained(folder)
    config = json.loads((folder/'config.json').read_text())
    (folder/'config.json').write_text(json.dumps({**config, **changes}))
    return folder

@pytest.mark.parametrize('changes, said', [(dict(n_layers=10**9), 'n_layers from 1 to 512, got 1,000,000,000'), (dict(d_model=10**9), 'd_model from 1 to'), (dict(n_layers=0), 'n_layers'), (dict(n_heads=10**9), 'n_heads'),
    (dict(d_ff=10**12), 'd_ff'), (dict(queries={'queries': [{'name': f'q{i}', 'answers': ['a', 'b']} for i in range(200_000)]}), 'at most 2,000 questions')])
def test_a_configuration_of_any_size_is_refused_at_once(tmp_path, changes, said):
    path,began = saved(tmp_path/'m', **changes), time.process_time()
    with pytest.raises(ValueError, match=said): TQN.from_pretrained(path)
    assert time.process_time()-began < 20

def test_many_names_take_no_squares_of_time():
    began = time.process_time()
    QuerySet({'q': [f'a{i}' for i in range(50_000)]})
    assert time.process_time()-began < 10
    with pytest.raises(ValueError, match="'x' occurs more than once"): QuerySet({'q': [*map(str, range(1000)), 'x', 'x']})
    assert all(v>=(16 if k=='n_convs' else 2**9) for k,v in LARGEST.items()) and QueryDecoder(3, 8, 1, 2)

def scored(k, answers, n):
    qs = QuerySet({f'q{i}': [f'answer {a}' for a in range(answers)] for i in range(k)})
    ev,g = Evaluation(qs), torch.Generator().manual_seed(0)
    ev.add([f'v{i}' for i in range(n)], {q: torch.randn(n, answers, generator=g) for q in qs.names}, {q: torch.randint(0, answers, (n,), generator=g) for q in qs.names})
    return ev

@pytest.mark.parametrize('k, answers, n', [(500, 3, 4), (1, 5000, 300)])
def test_figures_of_many_questions_and_answers(k, answers, n, tmp_path):
    ev = scored(k, answers, n)
    for fig in (plot_confusion(ev), plot_scores(ev).figure):
        fig.savefig(io.BytesIO(), format='png', dpi=40)
        assert max(fig.get_size_inches())<=60
    assert len(plot_confusion(ev).axes)==min(k, 12)
    path = ev.save(tmp_path/'scores.json')
    assert path.stat().st_size < 2*10**6
    found = json.loads(path.read_text())['confusion']['q0']
    if answers==5000: assert sum(c for *_,c in found['entries'])==n and 'counts' not in found and len(found['labels'])==5000
    else: assert np.sum(found['counts'])==n

def test_a_square_of_many_questions():
    names = [f'q{i}' for i in range(60)]
    maps = [ClipMaps(f'v{i}', {q: [.5, .5] for q in names}, {q: (0, 8) for q in names}, 16) for i in range(2)]
    fig = plot_localisation(localise(maps, flight='q0', n_boot=10))
    assert max(fig.get_size_inches())<=60 and not fig.axes[0].texts          # no numbers in 3,600 cells
    fig,ax = plt.subplots(); draw_heat(ax, np.eye(3), list('abc'), list('abc')); assert len(ax.texts)==9

def test_scores_of_many_videos_stay_a_file_one_can_open(tmp_path):
    "Beyond a number of answers they stand in predictions.csv alone"
    ev = scored(10, 3, 300)
    assert set(json.loads(ev.save(tmp_path/'all.json', videos=True).read_text())['videos']) == {f'v{i}' for i in range(300)}
    found = json.loads(ev.save(tmp_path/'scores.json', videos=True, most=2000).read_text())
    assert 'videos' not in found and '3,000 answers' in found['videos_left_out'] and found['n_videos'] == 300
    assert (tmp_path/'scores.json').stat().st_size < 2e4
