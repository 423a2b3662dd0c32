"Readers, losses, other uses of the label's text, attribution, and grids of experiments."
import json, subprocess, sys
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from torch.testing import assert_close
from tqn.attribution import agreement, clip_gradients
from tqn.captions import CaptionModel, ReaderModel, Vocabulary, answers_of_classes, beam_search, caption_forward, caption_loss, init_queries, words_loss
from tqn.data import FeatureDataset, Item
from tqn.grid import Experiment, Grid, load_grid, make_experiment, run_grid, run_one, summary
from tqn.losses import attention_centres, focus_loss, order_loss, ordinal_loss
from tqn.metrics import ClipMaps
from tqn.model import TQN
from tqn.queries import QuerySet
from tqn.temporal import READERS, make_reader

QUESTIONS = QuerySet({'colour': ['red', 'blue'], 'count': ['0', '1', '2']}, classes=[('a', ['red', '0']), ('b', ['blue', '1']), ('c', ['blue', '2'])])

def padded(lengths, d, seed=0):
    "Features of videos of these lengths, with garbage as padding"
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(len(lengths), max(lengths), d, generator=g)
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return x.masked_fill(~valid[..., None], 1e4), valid


# Readers

@pytest.mark.parametrize('name', READERS)
@settings(max_examples=8)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_readers_never_see_padding(name, lengths, seed):
    torch.manual_seed(seed)
    reader = make_reader(name, 3, 8, 12).eval()
    x, valid = padded(lengths, 12, seed)
    r, attn = reader(x, valid)
    assert r.shape == (len(lengths), 3, 8) and attn.shape[0] == len(lengths) and attn.shape[3:] == (3, max(lengths))
    assert_close(attn.sum(-1), torch.ones(attn.shape[:-1]))
    assert not attn.masked_select(~valid[:, None, None, None].expand_as(attn)).any()
    for i, n in enumerate(lengths):
        alone, its = reader(x[i:i+1, :n])
        assert_close(r[i], alone[0], rtol=1e-4, atol=1e-5)
        assert_close(attn[i, ..., :n], its[0], rtol=1e-4, atol=1e-5)

def test_readers_refuse_a_video_without_clips():
    for name in READERS:
        with pytest.raises(ValueError, match='at least one valid clip'): make_reader(name, 2, 8, 8)(torch.randn(2, 3, 8), torch.tensor([[True]*3, [False]*3]))

def test_a_reader_model_answers_every_question_and_reads_classes():
    "Its heads and its product of answers are TQN's, on any reader; the product is the sum along the class table"
    model = ReaderModel(QUESTIONS, 'lstm', d_model=8, d_features=6).eval()
    out = model(*padded([4, 2], 6))
    assert {q: tuple(o.shape) for q, o in out.responses.items()} == {'colour': (2, 2), 'count': (2, 3)}
    logp = [out.responses[q].log_softmax(-1) for q in QUESTIONS.names]
    want = torch.stack([logp[0][:, i] + logp[1][:, j] for i, j in QUESTIONS.class_table.tolist()], 1)
    assert_close(model.read_classes(out, 'product').log_softmax(-1), want.log_softmax(-1))


# Losses

@given(st.integers(2, 7), st.integers(0, 99))
def test_ordinal_loss_against_its_sum(n, seed):
    g = torch.Generator().manual_seed(seed)
    logits, target = torch.randn(5, n, generator=g), torch.randint(-1, n, (5,), generator=g)
    loss, known = ordinal_loss(logits, target)
    for i in range(5):
        p = logits[i].softmax(-1)
        want = sum((float(p[:j+1].sum()) - float(int(target[i]) <= j))**2 for j in range(n-1))/(n-1) if target[i] >= 0 else 0.
        assert_close(float(loss[i]), want, rtol=1e-4, atol=1e-6)
    assert known.tolist() == (target >= 0).tolist()

@given(st.integers(1, 12), st.integers(0, 99))
def test_centres_against_numpy(n, seed):
    rng = np.random.default_rng(seed)
    a = rng.dirichlet(np.ones(n), (1, 2, 3, 4))
    centre, width = attention_centres(torch.tensor(a), torch.ones(1, n, dtype=torch.bool))
    t, m = (np.arange(n) + .5)/n, a.mean((1, 2))[0]
    assert_close(centre[0].double(), torch.tensor(m@t), rtol=1e-4, atol=1e-5)
    assert_close(width[0].double(), torch.tensor([(m[k]*abs(t - m[k]@t)).sum() for k in range(4)]), rtol=1e-4, atol=1e-5)
    assert focus_loss(torch.tensor(a), torch.ones(1, n, dtype=torch.bool)) >= 0
    assert order_loss([0, 1], margin=0.)(torch.tensor(a), torch.ones(1, n, dtype=torch.bool)) == pytest.approx(max(0., float(centre[0, 0] - centre[0, 1])), abs=1e-6)


# The label's text

@given(st.integers(0, 999))
def test_answers_of_classes_against_a_loop(seed):
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    p = scores.softmax(-1)
    for i, q in enumerate(QUESTIONS):
        want = torch.stack([sum((p[:, c] for c in range(3) if QUESTIONS.class_table[c, i] == j), torch.zeros(4)) for j in range(len(q))], 1)
        assert_close(answers_of_classes(scores, QUESTIONS)[q.name].exp(), want.clamp(min=1e-9))

def test_words_loss_with_nothing_known_is_zero():
    out = ReaderModel(QUESTIONS, 'mean', 8, 6)(*padded([2], 6))
    assert words_loss(out, {'colour': torch.tensor([-1]), 'count': torch.tensor([-1])})[0].item() == 0

def test_missing_words_teach_nothing():
    "A caption with a missing word trains on the others, and its gradient is finite"
    model = CaptionModel(QUESTIONS, 8, 6, n_layers=1, n_heads=2)
    x, valid = padded([3, 1], 6)
    batch = dict(x=x, valid=valid, answers={'colour': torch.tensor([1, -1]), 'count': torch.tensor([-1, -1])})
    loss, _ = caption_loss(caption_forward(model, batch), batch['answers'], vocabulary=model.vocabulary)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None) and torch.isfinite(loss)

@given(st.integers(1, 5), st.integers(0, 20))
@settings(max_examples=10)
def test_the_score_of_a_beam_is_the_probability_of_its_sentence(width, seed):
    torch.manual_seed(seed)
    model = CaptionModel(QUESTIONS, 8, 6, n_layers=1, n_heads=2).eval()
    x, valid = padded([3, 2], 6, seed)
    v, x = model.vocabulary, x.masked_fill(~valid[..., None], 0)
    said, score = beam_search(model.decoder, x, valid, v.begin, v.end, 4, width)
    with torch.no_grad(): logp = model.decoder(said[:, :-1], x, valid).log_softmax(-1)
    for i in range(2):
        want, ended = 0., False
        for j, w in enumerate(said[i, 1:].tolist()):
            if not ended: want += float(logp[i, j, w])
            ended = ended or w == v.end
        assert float(score[i]) == pytest.approx(want, abs=1e-4)

def test_text_queries_are_the_same_in_every_process():
    code = "from tqn.captions import bag_of_words; print(bag_of_words(['a pike dive'], 4).tolist())"
    runs = {subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=None).stdout for _ in range(2)}
    assert len(runs) == 1
    with pytest.raises(ValueError, match='learned queries'): init_queries(ReaderModel(QUESTIONS, 'mean', 8, 6))

def test_vocabulary_round_trip():
    v = Vocabulary(QUESTIONS)
    answers = {'colour': torch.tensor([0, 1]), 'count': torch.tensor([2, 0])}
    assert {q: o.argmax(1).tolist() for q, o in v.read(v.write(answers)).items()} == {q: o.tolist() for q, o in answers.items()}


# Attribution

@given(st.integers(0, 50))
@settings(max_examples=10)
def test_gradients_against_finite_differences(seed):
    torch.manual_seed(seed)
    model = TQN(QUESTIONS, d_model=8, n_layers=1, n_heads=2).eval().double()
    x, valid = torch.randn(1, 4, 8).double(), torch.ones(1, 4, dtype=torch.bool)
    shares, eps = clip_gradients(model, x, valid), 1e-3
    with torch.no_grad():
        top = {q: int(z.argmax()) for q, z in model(x, valid).responses.items()}
        for q in QUESTIONS.names:
            logp = lambda y: model(y, valid).responses[q].double().log_softmax(-1)[0, top[q]]
            d = []
            for i in range(4):
                more, less = x.clone(), x.clone()
                more[0, i] *= 1+eps; less[0, i] *= 1-eps
                d.append(abs(float(logp(more) - logp(less)))/(2*eps))
            assert_close(shares[q][0], torch.tensor(d).double()/sum(d), rtol=.05, atol=.01)

def test_agreement_is_between_minus_one_and_one():
    rng = np.random.default_rng(0)
    maps = lambda: [ClipMaps(f'v{i}', {'q': rng.random(6)}, {}, 48) for i in range(20)]
    table = agreement(maps(), maps())
    assert table.n['q'] == 20 and -.6 < table['rank correlation']['q'] < .6


# Grids

def toy(n, seed):
    rng, items, features = np.random.default_rng(seed), [], {}
    for i in range(n):
        c = int(rng.integers(3))
        id = f'{seed}-{i}'
        items.append(Item(id, None, {'colour': ['red', 'blue', 'blue'][c], 'count': '012'[c]}, 'abc'[c], {'colour': (0, 16), 'count': (16, 32)}, 32))
        features[id] = torch.tensor(rng.normal(0, .3, (4, 6)) + np.eye(6)[c]*3, dtype=torch.float32)
    return FeatureDataset(features, items, QUESTIONS)

@pytest.fixture(scope='module')
def data(): return {'train': toy(32, 1), 'val': toy(12, 2), 'test': toy(20, 3)}

SMALL = dict(d_model=8, n_layers=1, n_heads=2, epochs=2)

@pytest.mark.parametrize('settings', [{}, dict(model='reader', reader='gru'), dict(model='class'), dict(model='words'), dict(model='caption', beam=2), dict(every=2), dict(questions=['count']),
    dict(attn_loss='order', attn_weight=1.), dict(attn_loss='focus', attn_weight=1.), dict(text_queries=True), dict(heads='shared'), dict(class_query=False), dict(trained=False)],
    ids=lambda s: ' '.join(map(str, s.values())) or 'tqn')
def test_every_kind_of_row_runs(data, tmp_path, settings):
    r = run_one(make_experiment({**SMALL, **settings}), 0, data, tmp_path)
    wanted = settings.get('questions', ['colour', 'count'])
    assert set(wanted) <= set(r['test']['scores']) and all(len(r['test']['right'][q]) == 20 for q in wanted)
    assert 0 <= r['test']['scores']['mean answer'] <= 1 and r['reading'] in ('query', 'product', 'both')
    assert json.loads((tmp_path/'result.json').read_text()) == json.loads(json.dumps(r))

def test_a_grid_goes_on_where_it_stopped(data, tmp_path):
    grid = Grid('g', {'a': Experiment(**SMALL), 'b': Experiment(**SMALL, model='reader', reader='mean')}, 'a', (0, 1))
    first = run_grid(grid, data, tmp_path, progress=False)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('result.json')}
    (tmp_path/'b'/'seed1'/'result.json').unlink()
    again = run_grid(grid, data, tmp_path, progress=False)
    now = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('result.json')}
    assert {p.parent.parent.name + p.parent.name for p in now if now[p] != times[p]} == {'bseed1'}
    assert again['b'][1]['test'] == first['b'][1]['test']        # the same seed gives the same scores
    table = summary(again, 'a')
    assert table[table.row == 'b'].difference.notna().all() and (table[table.row == 'b'].low <= table[table.row == 'b'].high).all()

def test_changed_settings_are_run_again(data, tmp_path):
    one = run_one(Experiment(**SMALL), 0, data, tmp_path)
    two = run_one(Experiment(**{**SMALL, 'epochs': 3}), 0, data, tmp_path)
    assert one['digest'] != two['digest'] and two['settings']['epochs'] == 3

@pytest.mark.parametrize('text, message', [('rows: {}', 'a row or more'), ('rows: {a: {d_modle: 3}}', 'd_model'), ('base: b\nrows: {a: {}}', 'base'), ('- 1', 'expected title'), ('rows: [', 'not YAML'),
    ('seeds: [0, 0]\nrows: {a: {}}', 'different seeds'), ('rows: {a b: {}, A-B: {}}', 'differ')])
def test_grids_that_are_wrong_say_why(tmp_path, text, message):
    (tmp_path/'g.yaml').write_text(text)
    with pytest.raises(ValueError, match=message): load_grid(tmp_path/'g.yaml')
