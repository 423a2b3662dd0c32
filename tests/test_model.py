"TQN: packing, heads, readings, loss, files, published checkpoints, and what they refuse"
import copy
import json
import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from tqn.models.backbone import S3D, fuse
from tqn.models.decoder import QueryDecoder
from tqn.models.tqn import TQN, SharedHead, TQNOutput, product_of_answers, run_packed
from tqn.models.losses import tqn_loss
from tqn.training.run import param_groups
from tqn.questions.queries import Query, QuerySet


class Tiny(nn.Module):
    "A backbone that counts the clips it sees; any number of channels, any size"
    def __init__(self, d=6):
        super().__init__()
        self.d_out, self.linear, self.norm, self.seen = d, nn.Linear(6, d), nn.BatchNorm1d(d), []

    def forward(self, x):
        self.seen.append(len(x))
        return self.norm(self.linear(torch.cat([x.mean((2,3,4)), x.std((2,3,4))], 1)))


def questions(classes=True):
    table = [('back tuck', ['Back','0','Tuck',None]), ('forward twist', ['Forward','1','Free',None]), ('any pike', [None,None,'Pike',None])]
    return QuerySet([Query('take.off', ['Back','Forward','Reverse']), Query('twist', ['0','½','1'], kind='count'), Query('position', ['Pike','Tuck','Free']),
                     Query('forward', ['splash','late'], kind='many')], classes=table if classes else None)   # names that torch's ModuleDict would refuse


def network(backbone=None, **kwargs):
    torch.manual_seed(0)
    return TQN(questions(), backbone=backbone, **{**dict(d_model=16, n_layers=2, n_heads=2), **kwargs}).eval()


def same(a, b, atol=1e-5):
    for q in a.responses: assert_close(a.responses[q], b.responses[q], atol=atol, rtol=1e-4)
    assert_close(a.classes, b.classes, atol=atol, rtol=1e-4)


# --- packing

@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 5), chunk=st.sampled_from([None,1,2,3,50]), junk=st.sampled_from([0., 9., float('nan')]), data=st.data())
def test_only_real_clips_enter(n, chunk, junk, data):
    lengths = data.draw(st.lists(st.integers(0, n), min_size=1, max_size=3).filter(any))
    valid = torch.arange(n) < torch.tensor(lengths)[:,None]
    net = Tiny().eval()
    x = torch.randn(len(lengths), n, 3, 2, 4, 4)
    clean = net(x.flatten(0, 1)).unflatten(0, valid.shape).masked_fill(~valid[...,None], 0)
    x[~valid] = junk
    net.seen.clear()
    with torch.no_grad(): assert_close(run_packed(net, x, valid, chunk), clean)
    assert sum(net.seen) == sum(lengths) and max(net.seen) <= (chunk or 100)


def test_batch_statistics_and_gradients_of_a_padded_batch():
    x, valid = torch.randn(2, 4, 3, 2, 4, 4), torch.tensor([[True]*4, [True]*2+[False]*2])
    a, b = Tiny().train(), Tiny().train()
    b.load_state_dict(a.state_dict())
    run_packed(a, x, valid).square().sum().backward()
    b(x[valid]).square().sum().backward()
    assert_close(a.state_dict(), b.state_dict())
    for p, q in zip(a.parameters(), b.parameters()): assert_close(p.grad, q.grad)


def test_one_answer_whatever_way_the_video_comes():
    "Padded, alone, in chunks, as features, folded: the same logits"
    m = network(S3D(width=.125))
    x, valid = torch.randn(2, 4, 3, 8, 32, 32), torch.tensor([[True]*4, [True]*2+[False]*2])
    with torch.no_grad():
        out = m(x, valid)
        same(out, m(x, valid, chunk=3)); same(out, m(out.features, valid)); same(out, fuse(m)(x, valid), atol=1e-4)
        alone = [m(x[:1]), m(x[1:,:2])]
    same(out, TQNOutput({q: torch.cat([o.responses[q] for o in alone]) for q in out.responses}, torch.cat([o.classes for o in alone]), None, None, None, None))
    assert out.attn.shape == (2, 2, 2, 5, 4) and (out.attn[1,...,2:] == 0).all()


def test_gradient_reaches_the_backbone_through_padding():
    m = network(Tiny(), dropout=0., response_dropout=0.).train()
    x, valid = torch.randn(2, 4, 3, 2, 4, 4), torch.tensor([[True]*4, [True]*2+[False]*2])
    total, _ = tqn_loss(m(x, valid), {'twist': torch.tensor([0,1])}, torch.tensor([0,1]))
    total.backward()
    assert m.backbone.linear.weight.grad.any() and m.backbone.linear.weight.grad.isfinite().all()


def test_wide_and_narrow_features():
    m = network(d_features=5)
    assert m(torch.randn(2, 3, 5)).vectors.shape == (2, 5, 16)
    assert network(Tiny()).decoder.d_memory == 6


# --- heads and readings

def test_shared_head_follows_the_vocabulary():
    head = SharedHead(questions(), 8, ['Free','Tuck','Pike','1','½','0','Reverse','Forward','Back','late','splash','unused'])
    r = torch.randn(3, 4, 8)
    assert_close(head(r)['twist'], head.linear(r[:,1])[:,[5,4,3]])
    assert head.linear.out_features == 12


def test_per_query_heads_are_apart():
    m = network()
    m.heads(torch.randn(2, 4, 16))['twist'].sum().backward()
    assert [layer.weight.grad is not None for layer in m.heads.layers] == [False, True, False, False]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999))
def test_product_of_answers_against_loops(seed):
    torch.manual_seed(seed)
    qs = questions()
    logits = {q.name: 3*torch.randn(2, len(q.answers)) for q in qs}
    probs = {k: v.softmax(-1) for k, v in logits.items()}
    score = torch.ones(2, 3)
    for c, row in enumerate(qs.class_table.tolist()):
        for q, a in zip(qs, row):
            if a >= 0: score[:,c] *= probs[q.name][:,a]
    assert_close(product_of_answers(logits, qs.class_table).exp(), score/score.sum(-1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_product_survives_extreme_logits():
    logits = {q.name: torch.tensor([[1e4]+[-1e4]*(len(q.answers)-1)]) for q in questions()}
    p = product_of_answers(logits, questions().class_table)
    assert p.isfinite().all() and p.exp().sum().item() == pytest.approx(1)


def test_readings_of_a_model_without_class_query():
    m = TQN(questions(), d_model=16, n_heads=2, n_layers=1, class_query=False, class_reading='product').eval()
    out = m(torch.randn(2, 3, 16))
    assert out.classes is None and out.attn.shape[3] == 4 and m.read_classes(out).shape == (2, 3)
    with pytest.raises(ValueError, match='needs a class query'): m.read_classes(out, 'both')
    plain = TQN(questions(classes=False), d_model=16, n_heads=2, n_layers=1).eval()
    with pytest.raises(ValueError, match='have no classes'): plain.read_classes(plain(torch.randn(2, 3, 16)), 'product')


# --- loss

def output(b=3, seed=0):
    torch.manual_seed(seed)
    logits = {q.name: torch.randn(b, len(q.answers), requires_grad=True) for q in questions()}
    return TQNOutput(logits, torch.randn(b, 3, requires_grad=True), None, None, None, None)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), b=st.integers(1, 4), weight=st.sampled_from([0., 1., 2.5]))
def test_loss_against_loops(data, b, weight):
    "Any pattern of missing answers and classes"
    out, terms, targets = output(b), [], {}
    for q in questions():
        if data.draw(st.booleans(), label='asked'):
            rows = []
            for v in range(b):
                missing = data.draw(st.booleans())
                if q.kind == 'many':
                    row = [float('nan')]*2 if missing else [float(data.draw(st.booleans())) for _ in range(2)]
                    if not missing: terms.append(F.binary_cross_entropy_with_logits(out.responses[q.name][v], torch.tensor(row)))
                else:
                    row = -1 if missing else data.draw(st.integers(0, len(q.answers)-1))
                    if not missing: terms.append(-out.responses[q.name][v].log_softmax(-1)[row])
                rows.append(row)
            targets[q.name] = torch.tensor(rows)
    classes = torch.tensor([data.draw(st.integers(-1, 2)) for _ in range(b)])
    known = [-out.classes[v].log_softmax(-1)[c] for v, c in enumerate(classes) if c >= 0]
    expect = (sum(terms)/len(terms) if terms else 0)+weight*(sum(known)/len(known) if known else 0)
    total, parts = tqn_loss(out, targets, classes, class_weight=weight)
    assert_close(total, torch.as_tensor(expect, dtype=torch.float32))
    total.backward()
    for t in out.responses.values(): assert t.grad is None or t.grad.isfinite().all()
    assert set(parts) == {*targets, 'class'} and not any(p.requires_grad for p in parts.values())


def test_a_missing_answer_has_no_gradient():
    out = output()
    tqn_loss(out, {'twist': torch.tensor([0,-1,1]), 'forward': torch.tensor([[1.,0.],[math.nan]*2,[0.,0.]])}, torch.tensor([-1,-1,0]))[0].backward()
    assert not out.responses['twist'].grad[1].any() and not out.responses['forward'].grad[1].any() and not out.classes.grad[:2].any()
    assert out.responses['twist'].grad[0].any() and out.responses['forward'].grad[0].any() and out.classes.grad[2].any()


def test_loss_refusals():
    with pytest.raises(ValueError, match="got one to 'somersault'"): tqn_loss(output(), {'somersault': torch.zeros(3).long()})
    with pytest.raises(ValueError, match=r'expected answers \(3,\)'): tqn_loss(output(), {'twist': torch.zeros(2).long()})
    with pytest.raises(ValueError, match=r'expected 0/1 answers \(3, 2\)'): tqn_loss(output(), {'forward': torch.zeros(3)})


def test_groups_hold_every_parameter_once():
    m = network(Tiny(), temperature=True, positions='learned', heads='shared')
    groups = param_groups(m, lr=2., decoder_factor=.5, weight_decay=.1)
    ids = [id(p) for g in groups for p in g['params']]
    assert sorted(ids) == sorted(id(p) for p in m.parameters()) and len(set(ids)) == len(ids)
    assert [g['lr'] for g in groups] == [2., 1.] and [g['weight_decay'] for g in groups] == [.1, .1]


# --- files

SETTINGS = [dict(), dict(heads='shared', positions='sine', class_reading='both'), dict(positions='learned', n_positions=9, temperature=True, d_ff=8),
            dict(class_query=False, class_reading='product', d_features=7, positions='rotary', heads='shared', vocabulary=['absent', *{a: 0 for q in questions() for a in q.answers}][::-1])]


@pytest.mark.parametrize('kwargs', SETTINGS)
def test_there_and_back(tmp_path, kwargs):
    m = network(**kwargs)
    m.save_pretrained(tmp_path/'m')
    again = TQN.from_pretrained(tmp_path/'m')
    assert again.queries == m.queries and again._hub_mixin_config == m._hub_mixin_config and not again.training
    x = torch.randn(2, 5, m.decoder.d_memory)
    with torch.no_grad(): a, b = m(x), again(x)
    for q in a.responses: assert torch.equal(a.responses[q], b.responses[q])
    assert torch.equal(m.read_classes(a), again.read_classes(b))


def test_a_backbone_with_its_batch_norm_settings(tmp_path):
    m = network(S3D(width=.125, gating=True, bn_eps=1e-3))
    m.save_pretrained(tmp_path); again = TQN.from_pretrained(str(tmp_path))
    assert again.backbone.config == m.backbone.config and again.backbone.Conv_1a.bn1.eps == 1e-3
    assert sorted(os.listdir(tmp_path)) == ['README.md', 'config.json', 'model.safetensors']


def test_a_copy_can_be_saved_too(tmp_path):
    copy.deepcopy(network(Tiny())).save_pretrained(tmp_path)
    assert TQN.from_pretrained(tmp_path, backbone=Tiny()).queries == questions()


def test_a_backbone_of_ones_own_is_asked_for(tmp_path):
    network(Tiny()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='make one and pass it'): TQN.from_pretrained(tmp_path)


@pytest.mark.parametrize('damage, message', [
    (lambda p: [o.unlink() for o in p.iterdir()], 'there is no'), (lambda p: (p/'config.json').write_text('{'), 'cannot be read as JSON'), (lambda p: (p/'config.json').write_text('[]'), 'expected a mapping'),
    (lambda p: (p/'model.safetensors').unlink(), 'found none'), (lambda p: (p/'model.safetensors').write_bytes(b'x'*50), 'damaged'),
    (lambda p: (p/'model.safetensors').write_bytes((p/'model.safetensors').read_bytes()[:-7]), 'damaged')])
def test_damaged_folders(tmp_path, damage, message):
    network().save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message): TQN.from_pretrained(tmp_path)


def test_weights_carry_a_copy_of_their_settings(tmp_path):
    network().save_pretrained(tmp_path)
    before = (tmp_path/'config.json').read_text()
    (tmp_path/'config.json').unlink()
    assert TQN.from_pretrained(tmp_path).queries == questions()
    assert json.loads((tmp_path/'config.json').read_text()) == json.loads(before)


def test_other_questions_do_not_fit(tmp_path):
    network().save_pretrained(tmp_path)
    config = json.loads((tmp_path/'config.json').read_text())
    config['queries']['queries'][0]['answers'].append('Inward')
    (tmp_path/'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r'heads.layers.0.weight \(3, 16\) where the model has \(4, 16\)'): TQN.from_pretrained(tmp_path)


def test_a_failed_save_keeps_the_old_model(tmp_path, monkeypatch):
    m = network(); m.save_pretrained(tmp_path)
    old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('pathlib.Path.write_bytes', full)
    with pytest.raises(OSError, match='unchanged'): network(n_layers=1).save_pretrained(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_half_and_hub_arguments(tmp_path):
    m = network().to(torch.float16); m.save_pretrained(tmp_path)
    again = TQN.from_pretrained(tmp_path, local_files_only=True, map_location='cpu')
    assert_close(again.decoder.queries, m.decoder.queries.float())


def test_files_follow_the_umask(tmp_path):
    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        old = os.umask(umask)
        try: network().save_pretrained(tmp_path/oct(umask))
        finally: os.umask(old)
        assert {p.name: p.stat().st_mode & 0o777 for p in (tmp_path/oct(umask)).iterdir()} == dict.fromkeys(['README.md', 'config.json', 'model.safetensors'], mode)


@pytest.mark.parametrize('change, message', [(dict(d_modle=16), "no setting 'd_modle'; nearest known spelling: 'd_model'"), (dict(n_heads=0), 'make no TQN'), (dict(n_heads=3), 'make no TQN.*must divide'), (dict(d_model='wide'), 'make no TQN'),
                                             (dict(n_layers=None), 'make no TQN'), (dict(backbone=dict(widht=1)), 'make no TQN'), (dict(preprocess=5), 'make no TQN')])
def test_settings_that_were_edited(tmp_path, change, message):
    network().save_pretrained(tmp_path)
    config = tmp_path/'config.json'
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ValueError, match=message) as e: TQN.from_pretrained(tmp_path)
    assert str(tmp_path) in str(e.value)


def test_a_misspelled_argument(tmp_path):
    network().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="nearest known spelling: 'class_reading'"): TQN.from_pretrained(tmp_path, clas_reading='both')


# --- input and settings

def test_features_that_keep_time_are_refused():
    for backbone in (S3D(width=.125, time='keep'), dict(width=.125, time='keep')):
        with pytest.raises(ValueError, match="one feature a clip.*use time='pool'"): network(backbone)

@pytest.mark.parametrize('shape, backbone, message', [((4,3,2,4,4), True, r'x\[None\]'), ((2,4,3,2,4,4), False, 'has no backbone'), ((4,16), False, r'x\[None\]'),
                                                      ((2,4,15), False, '16 wide, got 15'), ((2,0,16), False, 'n ≥ 1')])
def test_input_is_checked(shape, backbone, message):
    with pytest.raises(ValueError, match=message): network(Tiny() if backbone else None)(torch.randn(shape))


def test_a_video_without_clips_is_refused():
    for x, m in ((torch.randn(2,3,16), network()), (torch.randn(2,3,3,2,4,4), network(Tiny()))):
        with pytest.raises(ValueError, match='video 1 of the batch has none'): m(x, torch.tensor([[True]*3,[False]*3]))


@pytest.mark.parametrize('kwargs, message', [(dict(heads='mine'), 'heads must be'), (dict(class_reading='vote'), 'class_reading must be'), (dict(n_heads=3), 'must divide'),
                                             (dict(backbone='s3d'), 'expected a backbone module'), (dict(heads='shared', vocabulary=['Back']), 'expected every answer')])
def test_settings_are_checked(kwargs, message):
    with pytest.raises(ValueError, match=message): network(**kwargs)


def test_training_in_chunks_is_refused():
    with pytest.raises(ValueError, match='chunk is for inference'): network(Tiny()).train()(torch.randn(1,4,3,2,4,4), chunk=2)


def test_logits_are_float32_under_autocast():
    m = network()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16): out = m(torch.randn(2, 3, 16))
    assert out.classes.dtype == torch.float32 and all(v.dtype == torch.float32 for v in out.responses.values())


def test_autocast_through_the_packed_backbone():
    m = network(Tiny())
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16): out = m(torch.randn(2,3,3,2,4,4), torch.tensor([[True]*3,[True,False,False]]))
    assert out.features.isfinite().all() and out.classes.isfinite().all()


# --- published format

def test_published_checkpoints_are_strict(tmp_path):
    import golden
    qs = QuerySet({f'q{i}': ['absent', *map(str, range(1,25))] for i in range(4)}, classes=[(f'c{i}', [None]*4) for i in range(48)])
    with torch.device('meta'): weights = {k: torch.empty(s) for k, s, _ in golden.keys(aliases=False)}
    with pytest.raises(ValueError, match='has 48 classes, these questions make 2'):
        TQN.from_published(weights, QuerySet({f'q{i}': ['absent', *map(str, range(1,25))] for i in range(4)}, classes=[(f'c{i}', [None]*4) for i in range(2)]))
    with pytest.raises(ValueError, match='has 5 queries, these questions make 3'): TQN.from_published(weights, QuerySet({'a': ['x'], 'b': ['y']}))
    with pytest.raises(ValueError, match='1 missing .decoder.norm.weight'): TQN.from_published({k: v for k, v in weights.items() if k != 'decoder.norm.weight'}, qs)
    with pytest.raises(ValueError, match='1 unexpected .backbone.optimizer'): TQN.from_published(weights | {'optimizer': torch.zeros(1)}, qs)
    torch.save({'args': object, 'state_dict': {}}, tmp_path/'a.pth.tar')
    with pytest.raises(ValueError, match='never executed'): TQN.from_published(tmp_path/'a.pth.tar', qs)


# A decoder that is given

class Pooled(nn.Module):
    "A decoder of one's own: the mean of the real features, through a matrix for each question; it does not say how wide it is"
    def __init__(self, k, m, d): super().__init__(); self.each = nn.ModuleList(nn.Linear(m, d) for _ in range(k))
    def forward(self, memory, valid=None):
        share = valid/valid.sum(1, keepdim=True)
        mean = (memory*share[..., None]).sum(1)
        return torch.stack([l(mean) for l in self.each], 1), share[:, None, None, None].expand(-1, -1, -1, len(self.each), -1)

GIVEN = QuerySet({'a': ['x', 'y'], 'b': ['u', 'v', 'w']}, classes=[('xu', ['x', 'u']), ('yw', ['y', 'w'])])

@pytest.mark.parametrize('class_query', [True, False])
def test_a_finished_decoder_is_the_convenience_form(class_query):
    "Given as a module, as its settings, or described by names: the same network, the same weights by name"
    k = 2 + class_query
    named = TQN(GIVEN, d_model=16, n_layers=2, n_heads=2, positions='sine', d_features=12, class_query=class_query).eval()
    said = dict(n_queries=k, d_model=16, n_layers=2, n_heads=2, positions='sine', d_memory=12)
    x, valid = torch.randn(2, 5, 12), torch.arange(5) < torch.tensor([[5], [3]])
    for decoder in (said, QueryDecoder(**said)):
        other = TQN(GIVEN, decoder=decoder, class_query=class_query).eval()
        other.load_state_dict(named.state_dict())
        for q in GIVEN.names: assert_close(other(x, valid).responses[q], named(x, valid).responses[q])

def test_a_decoder_is_saved_with_its_settings_or_named(tmp_path):
    x = torch.randn(1, 4, 12)
    for decoder in (QueryDecoder(3, 16, 1, 2, d_memory=12, temperature=True, self_attention=False), dict(n_queries=3, d_model=16, n_layers=1, n_heads=2, d_memory=12)):
        model = TQN(GIVEN, decoder=decoder).eval()
        model.save_pretrained(tmp_path/'m')
        again = TQN.from_pretrained(tmp_path/'m')
        assert again.decoder.config == model.decoder.config
        assert_close(again(x).classes, model(x).classes)
    own = TQN(GIVEN, d_model=8, decoder=Pooled(3, 12, 8)).eval()
    own.save_pretrained(tmp_path/'own')
    assert_close(TQN.from_pretrained(tmp_path/'own', decoder=Pooled(3, 12, 8))(x).classes, own(x).classes)
    with pytest.raises(ValueError, match='decoder of its own, Pooled, whose code is not in the file; make one and pass it') as e: TQN.from_pretrained(tmp_path/'own')
    assert 'save the model again' not in str(e.value)

@pytest.mark.parametrize('decoder,message', [(QueryDecoder(2, 16, 1), 'makes 2 responses, but these questions need 3'), (QueryDecoder(3, 16, 1, d_memory=6), 'reads features 6 wide, but they are 12'),
    ('queries', 'expected a decoder module')])
def test_a_decoder_that_does_not_fit(decoder, message):
    with pytest.raises(ValueError, match=message): TQN(GIVEN, decoder=decoder, d_features=12)

def test_a_video_without_a_clip_is_refused_by_number():
    "Where the value can be read at no cost, and by collate before a batch goes to a GPU"
    with pytest.raises(ValueError, match='video 1 of the batch has none'): TQN(GIVEN, d_model=16, n_layers=1)(torch.randn(2, 3, 16), torch.tensor([[True]*3, [False]*3]))

class Killed(BaseException): pass

@pytest.mark.parametrize('at', range(6))
def test_saving_over_another_model_killed_anywhere_leaves_one_of_the_two(tmp_path, monkeypatch, at):
    "Weights never meet the settings of another model: the move of the weights is the switch"
    old,new = (TQN(QuerySet({'side': ['left', 'right']}), d_model=16, n_layers=n, n_heads=2, d_features=4, class_reading=how) for n,how in ((1, 'query'), (1, 'product')))
    old.save_pretrained(tmp_path/'m')
    steps = iter(range(99))
    def step(real, *args, **kw):
        if next(steps) == at: raise Killed
        return real(*args, **kw)
    replace,unlink = os.replace,Path.unlink
    with monkeypatch.context() as m:
        m.setattr(os, 'replace', lambda *a, **kw: step(replace, *a, **kw))
        m.setattr(Path, 'unlink', lambda p, **kw: step(unlink, p, **kw) if p.parent == tmp_path/'m' else unlink(p, **kw))
        try: new.save_pretrained(tmp_path/'m')
        except Killed: pass
    there = TQN.from_pretrained(tmp_path/'m')
    same = {m.class_reading: all(torch.equal(a, b) for a,b in zip(m.parameters(), there.parameters())) for m in (old, new)}
    assert same == {'query': there.class_reading == 'query', 'product': there.class_reading == 'product'}
    if at > 3: assert there.class_reading == 'product'
