"Settings: published numbers, layers in their order, files that say what they mean, nothing ignored in silence"
import json, subprocess, sys
from typing import Literal, get_args, get_origin
import pytest
from hypothesis import HealthCheck, given, settings as limits, strategies as st
from tqn.training.settings import (MAY_CHANGE, PRESETS, RECIPES, Batches, Checked, Amount, Count, Learning, Network, Videos, Settings, TrainConfig, Windows, Wholes, make_config,
                          preset_settings, read_file, resolve, save_settings, settings_text)
from tqn.training.run import same_run

FIELDS = Settings.model_fields

def test_published_numbers():
    for name,stride,frames,k in (('diving48', 2, 128, 10), ('gym99', 1, 48, 6), ('gym288', 1, 48, 6)):
        one,two = resolve(1, name).settings,resolve(2, name).settings
        for s in (one, two):
            assert (s.clip_len, s.size, s.n_layers, s.n_heads, s.d_model, s.dropout, s.response_dropout) == (8, 224, 4, 4, 1024, .1, .8), name
            assert (s.optimiser, s.lr, s.decoder_lr, s.weight_decay, s.clip, s.heads, s.positions) == ('adam', 1e-3, .1, 1e-5, 400., 'per_query', 'none')
            assert s.stride == stride and 16 <= s.batch_size <= 24 and s.views == 'two' and s.augment and s.backbone == 's3d'
            assert s.colours == ('diving48' if name == 'diving48' else 'imagenet')
        assert (one.max_frames, one.schedule) == (frames, 'constant')
        assert (two.max_frames, two.k, two.schedule, two.milestones, two.way) == (0, k, 'steps', (10, 20), 'sufb')

def test_the_loop_reads_the_settings_of_a_run():
    assert set(TrainConfig.model_fields) - set(FIELDS) == {'attn_weight', 'unused'}         # of experiments with the loss, and of the processes
    assert make_config(Settings(epochs=3, schedule='cosine', k=4)) == TrainConfig(epochs=3, schedule='cosine')

@pytest.mark.parametrize('preset', [None, *PRESETS])
@pytest.mark.parametrize('stage', [1, 2])
@pytest.mark.parametrize('recipe', [None, 'published', 'modern'])
def test_every_combination_resolves_and_makes_a_loop(preset, stage, recipe):
    r = resolve(stage, preset, recipe=recipe)
    make_config(r.settings)
    assert set(r.origin) == set(FIELDS)
    if recipe == 'modern':
        for k,v in RECIPES['modern'][stage].items(): assert getattr(r.settings, k) == v

def other(f):
    "Values of a setting that are not its default"
    if f is FIELDS['box']: return st.sampled_from(['32,48,128,136', '0.2,0.3,0.8,0.9', '160x160:32,48,128,136;360x288:104,160,200,248'])
    if get_origin(f.annotation) is Literal: return st.sampled_from([o for o in get_args(f.annotation) if o != f.default])
    if f.annotation is bool: return st.just(not f.default)
    if f.annotation is int: return st.integers(1, 999)
    if f.annotation is float: return st.floats(1e-9, 1e6).filter(lambda v: v != f.default)
    if f.annotation is str: return st.text(st.characters(min_codepoint=33, max_codepoint=0x2fff, blacklist_categories=('Cs', 'Zl', 'Zp')), min_size=1, max_size=12)
    return st.lists(st.integers(1, 99), max_size=3).map(tuple)

some = st.sampled_from(sorted(FIELDS)).flatmap(lambda n: st.tuples(st.just(n), other(FIELDS[n]), other(FIELDS[n])))
quick = limits(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])

@quick
@given(some, st.sampled_from([1, 2]), st.sampled_from([None, *PRESETS]))
def test_a_flag_beats_a_file_beats_a_preset(tmp_path, case, stage, preset):
    name,in_file,typed = case
    plain = lambda v: list(v) if isinstance(v, tuple) else v
    (tmp_path/'f.json').write_text(json.dumps({name: plain(in_file)}))
    if name == 'recipe': return
    r = resolve(stage, preset, tmp_path/'f.json')
    assert (getattr(r.settings, name), r.origin[name]) == (in_file, str(tmp_path/'f.json'))
    r = resolve(stage, preset, tmp_path/'f.json', **{name: typed})
    assert (getattr(r.settings, name), r.origin[name]) == (typed, 'flag')

@quick
@given(st.lists(some, max_size=8), st.sampled_from([1, 2]), st.sampled_from([None, *PRESETS]))
def test_what_is_saved_says_the_same_again(tmp_path, cases, stage, preset):
    r = resolve(stage, preset, **{n: v for n,v,_ in cases})
    again = resolve(stage, config=save_settings(tmp_path, r, 'some: place #1'))
    assert again.settings == r.settings
    assert (again.preset, again.data) == (preset, 'some: place #1')
    assert settings_text(r, 'x') == settings_text(r, 'x')

@quick
@given(st.sampled_from(sorted(FIELDS)), st.integers(0, 30))
def test_a_misspelt_key_names_the_right_one(tmp_path, name, at):
    if len(name) < 4: return
    wrong = name[:at % len(name)] + name[at % len(name) + 1:]
    if wrong in (*FIELDS, 'preset', 'stage', 'data', 'stage1', 'stage2'): return
    (tmp_path/'f.yaml').write_text(f'{wrong}: 1\n')
    with pytest.raises(ValueError, match='nearest known spelling'): resolve(1, config=tmp_path/'f.yaml')
    with pytest.raises(ValueError, match='nearest known spelling'): resolve(1, **{wrong: 1})

def test_the_nearest_spelling_is_helpful(tmp_path):
    for wrong,right in (('learning_rate', None), ('batchsize', 'batch_size'), ('n_layer', 'n_layers'), ('weight-decay', 'weight_decay'), ('maxframes', 'max_frames')):
        (tmp_path/'f.yaml').write_text(f'{wrong}: 1\n')
        with pytest.raises(ValueError) as e: read_file(tmp_path/'f.yaml', 1)
        assert right is None or f"nearest known spelling: '{right}'" in str(e.value)

@pytest.mark.parametrize('text, match', [
    ('lr: fast\n', 'setting lr must be a number'), ('k: 2.5\n', 'k must be a whole number'), ('k: true\n', 'k must be a whole number'), ('augment: maybe\n', 'true or false'),
    ('schedule: cosin\n', "nearest known spelling: 'cosine'"), ('epochs: 0\n', 'epochs must be 1 or more'), ('lr: -1\n', 'lr must be 0 or more'), ('lr: .nan\n', 'lr must be a number, got nan'), ('lr: .inf\n', 'lr must be a number, got inf'), ('k: .inf\n', 'k must be a whole number'),
    ('lr: 1\nlr: 2\n', 'f.yaml'), ('- lr\n', 'must hold settings'), ('lr: [1]\n', 'must be a number'), ('lr:\n', 'must be a number'), ('backbone: {a: 1}\n', 'one line of text'),
    ('stage: 2\n', 'is for stage 2, and this is stage 1'), ('preset: diving84\n', "nearest known spelling: 'diving48'"), ('stage1: {kk: 1}\n', "stage1, has no setting 'kk'"),
    ('lr: !!python/object/apply:os.system [echo]\n', 'cannot be read as YAML'), ('lr: "1\n', 'cannot be read as YAML'), ('recipe: moderm\n', "'modern'")])
def test_a_bad_file_is_refused_by_name(tmp_path, text, match):
    (tmp_path/'f.yaml').write_text(text)
    with pytest.raises(ValueError, match=match): resolve(1, config=tmp_path/'f.yaml')

def test_a_file_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match='there is no file'): resolve(1, config=tmp_path/'none.yaml')
    (tmp_path/'f.toml').write_text('lr = 1')
    with pytest.raises(ValueError, match='.yaml, .yml or .json'): resolve(1, config=tmp_path/'f.toml')
    (tmp_path/'empty.yaml').write_text('')
    assert resolve(1, config=tmp_path/'empty.yaml').settings == resolve(1).settings

def test_parts_for_one_stage(tmp_path):
    (tmp_path/'f.yaml').write_text('preset: gym99\nlr: 2e-3\nstage1: {epochs: 5}\nstage2: {epochs: 7, lr: 1e-4}\n')
    one,two = (resolve(s, config=tmp_path/'f.yaml').settings for s in (1, 2))
    assert (one.epochs, one.lr, one.max_frames, two.epochs, two.lr, two.k) == (5, 2e-3, 48, 7, 1e-4, 6)
    assert resolve(1, 'diving48', tmp_path/'f.yaml').preset == 'diving48', 'what is typed beats the file'

def test_a_run_goes_on_with_its_own_settings_only(tmp_path):
    r = resolve(2, 'diving48', seed=3)
    save_settings(tmp_path, r)                     # all that a run before there was a record has kept of them
    def same(**flags): same_run(tmp_path, dict(settings=json.loads(json.dumps(dict(resolve(2, 'diving48', **flags).settings)))))
    same(seed=3)
    longer = {'epochs': 99, 'patience': 5, 'save_every': 7, 'device': 'cpu', 'precision': 'no', 'workers': 2}
    assert set(longer) == set(MAY_CHANGE)
    with pytest.raises(ValueError, match='seed was 3, now 4'): same(seed=4)
    with pytest.raises(ValueError, match="way was 'sufb', now 'frozen'"): same(seed=3, way='frozen')

class Kinds(Checked):
    n:Count=9
    x:Amount=9.
    b:bool=True
    t:Wholes=(9,)

@pytest.mark.parametrize('name, value, out', [('x', '1e-3', .001), ('x', 1, 1.), ('n', '07', 7), ('n', 7., 7), ('b', 'on', True), ('b', 'False', False), ('t', '10, 20', (10, 20)), ('t', [], ()), ('t', '', ())])
def test_kinds(name, value, out):
    read = getattr(Kinds(**{name: value}), name)
    assert read == out and type(read) is type(out)

@pytest.mark.parametrize('name, value', [('n', 2.5), ('n', True), ('n', None), ('n', [1]), ('x', True), ('x', 'inf'), ('x', '1e400'), ('b', 'maybe'), ('b', 2), ('t', [True]), ('t', '1,b'), ('t', {1: 2}), ('t', [2.5])])
def test_what_a_kind_refuses(name, value):
    with pytest.raises(ValueError, match=f'^setting {name} must be ') as e: Kinds(**{name: value})
    assert str(e.value).endswith(f'got {value!r}')

def test_presets_cannot_be_spoilt():
    preset_settings('diving48', 1)['stride'] = 99
    assert preset_settings('diving48', 1)['stride'] == 2

def test_every_setting_says_what_it_is():
    from tqn.cli.main import comments
    for group in (Videos, Network, Batches, Learning, Windows):
        said = comments(group)
        for name in group.__annotations__: assert len(said[name]) > 8 and '...' not in said[name], name
    assert dict(Settings()) == {n: f.default for n,f in FIELDS.items()}
