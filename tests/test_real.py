"What a study of real film is made of: a convolution before the queries, variants put together from features of frames, clips averaged from frames, scales, and gains over every control"
import json
from dataclasses import replace
import numpy as np
import pytest
import torch
from torch.testing import assert_close
from tqn import TQN, QuerySet
from tqn.attention.localise import ClipMaps
from tqn.attention.whatif import hiding_masks
from tqn.core.files import packaged
from tqn.data.batches import FeatureDataset, VariedFeatures, lengthened, moved
from tqn.data.items import Item
from tqn.models.decoder import ClipNorm, QueryDecoder
from tqn.studies.grid import Experiment, FeatureView, clip_timing, feature_scale, feature_source, grid_paths, load_grid, run_digest, run_grid, run_one, variant_splits, views
from tqn.studies.report import gains, make_tables
from tqn.training.settings import PRESETS, resolve

QS = QuerySet({'early': ['a', 'b'], 'late': ['x', 'y']})

def films(n=9, split='test', seed=0, d=5):
    "Films of 40 frames: early evidence in four of them, late evidence in four, at places that vary little; and features of every frame"
    rng,items,features = np.random.default_rng(seed),[],{}
    for i in range(n):
        a,e,l = int(rng.integers(10, 14)),int(rng.integers(2)),int(rng.integers(2))
        f = rng.normal(0, .3, (40, d)); f[a:a+4, e] += 4; f[a+6:a+10, 2+l] += 4
        id = f'{split}{i}'
        items.append(Item(id, f'/nowhere/{id}.mp4', {'early': 'ab'[e], 'late': 'xy'[l]}, extents={'early': (a, a+4), 'late': (a+6, a+10)}, split=split, n_frames=40, fps=25.))
        features[id] = torch.tensor(f, dtype=torch.float32)
    return FeatureDataset(features, items, QS)

class Frames:
    "As if features.json said that a row is one frame"
    def __init__(self, tmp_path):
        (tmp_path/'features.json').write_text(json.dumps({'preprocess': {'clip_len': 1}}))
        self.folder = tmp_path
    def __call__(self, d): d.folder = self.folder; return d

def source(tmp_path, variants=()):
    frame,data = Frames(tmp_path),{}
    for k,(s,n) in enumerate(dict(train=24, val=9, test=9).items()): data[s] = frame(films(n, s, k))
    for v in variants: data |= {f'{s}, {v}': VariedFeatures(data[s], v, **(dict(seconds=(3, 6)) if v == 'long' else {})) for s in ('train', 'val', 'test')}
    if 'moved' in variants: data['test, long'] = VariedFeatures(data['test'], 'long', seconds=(3, 6))
    return data

# The convolution

@pytest.mark.parametrize('kernel', [1, 3, 5])
def test_a_decoder_behind_a_convolution_against_a_loop(kernel):
    torch.manual_seed(0)
    dec = QueryDecoder(3, 8, 2, 2, d_memory=6, convolution=kernel).eval()
    dec.near.norm.running_mean.normal_(); dec.near.norm.running_var.uniform_(.5, 2)
    plain = QueryDecoder(3, 8, 2, 2).eval()
    plain.load_state_dict({k: v for k,v in dec.state_dict().items() if not k.startswith('near.')})
    x,valid = torch.randn(2, 7, 6),torch.arange(7) < torch.tensor([[7], [3]])
    r,attn = dec(x, valid)
    m,conv = dec.near.norm,dec.near.convs[0]
    for v,n in enumerate((7, 3)):
        h = dec.near.project((x[v,:n]-m.running_mean)/(m.running_var+m.eps).sqrt())
        def at(i): return h[i] if 0 <= i < n else torch.zeros(8)
        memory = torch.stack([h[i] + (conv.bias + sum(conv.weight[:,:,j]@at(i+j-kernel//2) for j in range(kernel))).relu() for i in range(n)])
        want,seen = plain(memory[None])
        assert_close(r[v], want[0], rtol=1e-4, atol=1e-5); assert_close(attn[v,...,:n], seen[0], rtol=1e-4, atol=1e-5)

def test_statistics_count_real_clips_alone_and_are_frozen_in_stage_2():
    torch.manual_seed(0)
    dec = QueryDecoder(2, 8, 1, 2, d_memory=6, convolution=3, dropout=0.)
    x,valid = torch.randn(2, 5, 6),torch.arange(5) < torch.tensor([[5], [2]])
    once = QueryDecoder(2, 8, 1, 2, d_memory=6, convolution=3, dropout=0.); once.load_state_dict(dec.state_dict())
    a,_ = dec(x, valid); b,_ = once(x.masked_fill(~valid[...,None], 1e6), valid)
    assert_close(a, b); assert_close(dec.near.norm.running_mean, once.near.norm.running_mean)
    assert_close(dec.near.norm.running_mean, .1*x[valid].mean(0))
    a.sum().backward(); assert dec.near.project.weight.grad.abs().sum() > 0 and not list(dec.near.norm.parameters())
    assert isinstance(dec.near.norm, torch.nn.modules.batchnorm._BatchNorm)      # what `batch_norm: frozen` looks for

def test_a_model_keeps_its_convolution_and_earlier_models_open(tmp_path):
    model = TQN(QS, d_model=16, n_layers=1, d_features=5, convolution=5).eval()
    model.save_pretrained(tmp_path/'new')
    again = TQN.from_pretrained(tmp_path/'new')
    x = torch.randn(2, 9, 5)
    assert_close(again(x).vectors, model(x).vectors)
    TQN(QS, d_model=16, n_layers=1, d_features=5).save_pretrained(tmp_path/'old')
    config = json.loads((tmp_path/'old'/'config.json').read_text())
    assert config.pop('convolution') == 0
    (tmp_path/'old'/'config.json').write_text(json.dumps(config))                # as models of before say it
    assert TQN.from_pretrained(tmp_path/'old').decoder.near is None
    with pytest.raises(ValueError, match='an odd number of clips, 1 to 1025'): TQN(QS, d_model=16, n_layers=1, convolution=4)

def test_settings_and_presets_name_it():
    assert resolve(1, 'diving48').settings.convolution == 0 and resolve(1).settings.convolution == 0        # as published
    assert PRESETS['grid'][1]['convolution'] == 5 and resolve(1, 'grid').settings.clip_len == 1
    assert resolve(1, 'grid', convolution=0).settings.convolution == 0

# Variants from features

@pytest.mark.parametrize('variant', ['moved', 'long'])
def test_rows_of_a_variant_are_those_of_its_frames(variant):
    d = films()
    v = VariedFeatures(d, variant, seed=3)
    assert [o.stretches for o in v.items] == [o.stretches for o in (moved if variant == 'moved' else lengthened)(d.items, seed=3)]
    by = {o.path: d.kept[o.id] for o in d.items}
    for i,o in enumerate(v.items):
        want = torch.stack([by[p][f] for p,a,b,times in o.stretches for f in range(a, b) for _ in range(times)])
        assert_close(v[0, i]['features'], want); assert len(want) == o.n_frames
        for q,(s,e) in o.extents.items():                                     # its evidence is the film's
            s0,e0 = d.items[i].extents[q]
            assert_close(want[s:e], d.kept[d.items[i].id][s0:e0])
        assert v[i]['answers'].keys() == d[i]['answers'].keys() and v[i]['id'] == o.id

def test_rows_of_clips_make_no_variant():
    d = films()
    clips = FeatureDataset({k: f[::8] for k,f in d.kept.items()}, d.items, QS)
    with pytest.raises(ValueError, match='extracted with --clip-len 1'): VariedFeatures(clips, 'moved')[0]

# Rows of a grid

@pytest.mark.parametrize('clip_len, hop', [(3, 0), (5, 2), (8, 1), (4, 4)])
def test_clips_averaged_from_frames(tmp_path, clip_len, hop):
    data = source(tmp_path)
    view = FeatureView(data['test'], Experiment(clip_len=clip_len, hop=hop))
    f,step = data['test'][0]['features'],hop or clip_len
    got = view[0]['features']
    assert clip_timing(view) == (clip_len, 1, hop or None)
    for i,row in enumerate(got[:-1]): assert_close(row, f[i*step:i*step+clip_len].mean(0))
    assert (len(got)-1)*step + clip_len >= 40
    with pytest.raises(ValueError, match='these are of clips of 8 frames'): FeatureView(films(), Experiment(clip_len=3))

def test_a_row_standardises_by_its_training_videos(tmp_path):
    data = source(tmp_path)
    mean,std = feature_scale(data['train'])
    every = torch.cat([data['train'][i]['features'] for i in range(24)])
    assert_close(mean, every.mean(0)); assert_close(std, every.std(0))
    view = views(Experiment(standardise=True), data)['test']
    assert_close(view[1]['features'], (data['test'][1]['features']-mean)/std)
    with pytest.raises(ValueError, match='feature_scale'): FeatureView(data['test'], Experiment(standardise=True))

def test_settings_that_came_later_change_no_digest(tmp_path):
    data = source(tmp_path)
    views_ = {s: FeatureView(d, Experiment(), s) for s,d in data.items()}
    old = run_digest(Experiment(), 0, views_)
    assert old == run_digest(Experiment(clip_len=0, variant='none'), 0, views_) != run_digest(Experiment(convolution=3), 0, views_)

def test_a_moved_row_is_tested_on_long_films_too(tmp_path):
    "Scores, attention on both, gains with an interval over the best fixed place, and as long a stretch hidden elsewhere"
    data = source(tmp_path, ['moved'])
    e = Experiment(model='tqn', variant='moved', convolution=3, d_model=16, n_layers=1, epochs=25, lr=5e-3, class_query=False)
    out = run_one(e, 0, data, tmp_path/'run')
    assert out['test']['scores']['mean answer'] > .8 and 'long_test' in out and out['test']['majority'].keys() >= {'early', 'late'}
    t = gains({'a': [out]}).set_index(['by', 'question', 'over'])
    assert t.loc[('attention', 'mean', 'fixed')].n == 9 and t.loc[('attention', 'mean', 'fixed')].gain > .2
    one = t.loc[('attention', 'early', 'fixed')]
    assert np.isclose(one.own-one.control, one.gain) and one.low <= one.gain <= one.high
    assert set(t.loc['hidden'].reset_index().over) == {'wrong', 'elsewhere'} and t.loc[('hidden', 'mean', 'elsewhere')].gain > 0
    assert len(gains({'a': [out]}, 'where_long')) == len(t)
    with pytest.raises(ValueError, match='variant: moved, and there are none'): variant_splits(source(tmp_path), 'moved')

def test_grids_of_real_film_are_found_by_name_and_run_on_nothing_else():
    assert not any(p.stem.startswith('real') for p in grid_paths())
    for p in grid_paths(['real_recorded', 'real_moved', 'real_readers']):
        g = load_grid(p)
        assert g.preset == 'grid' and g.rows[g.base].convolution == 5 and packaged('grids') in p.parents

# Hiding

def test_as_long_a_stretch_elsewhere_is_one_stretch():
    maps = ClipMaps('v', {'q': np.ones(40)}, {'q': (10, 16), 'p': (16, 20)}, 40, 1)
    g = np.random.default_rng(0)
    for _ in range(50):
        own,other = hiding_masks(maps, ['q', 'p'], g, together=True)
        for o,n in zip(other, (6, 4)):
            at = np.flatnonzero(~o)
            assert len(at) == n == at[-1]-at[0]+1 and not set(at) & set(range(10, 20))
    tight = ClipMaps('v', {'q': np.ones(12)}, {'q': (4, 9)}, 12, 1)
    assert not hiding_masks(tight, ['q'], g, together=True)[1].any() and hiding_masks(tight, ['q'], g)[1].any()     # seven clips are left, no five together
