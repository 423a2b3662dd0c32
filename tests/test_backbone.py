"S3D: shapes, names, files, folding; and torchvision's S3D beside it where it can be imported"
import copy
import json
import os
import pickle
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close
from tqn.models.backbone import S3D, fuse
from tqn.models.adapters import assign_weights, load_backbone, load_kinetics, load_torchvision, read_weights, save_backbone, small_backbone


def shaken(width=.125, **kwargs):
    "A small S3D in eval mode whose running statistics are far from 0 and 1"
    net = S3D(width=width, **kwargs)
    for i, m in enumerate(net.modules()):
        if isinstance(m, nn.BatchNorm3d):
            g = torch.Generator().manual_seed(i)
            m.running_mean.normal_(0, .3, generator=g); m.running_var.uniform_(.5, 2, generator=g)
            nn.init.uniform_(m.weight, .5, 1.5, generator=g); nn.init.normal_(m.bias, 0, .3, generator=g)
    return net.eval()


@pytest.fixture(scope='module')
def net(): return shaken()


@settings(max_examples=15, deadline=None)
@given(t=st.integers(1, 17), h=st.integers(1, 50), w=st.integers(1, 50))
def test_any_size_and_clip_length(net, t, h, w):
    with torch.no_grad(): out = net(torch.randn(1, 3, t, h, w))
    assert out.shape == (1, 128) and out.isfinite().all()


KEPT = shaken(time='keep')

@settings(max_examples=8, deadline=None)
@given(t=st.integers(1, 40))
def test_time_kept(t):
    with torch.no_grad(): assert KEPT(torch.randn(1, 3, t, 16, 16)).shape == (1, 128, -(-t//8))


def test_kept_time_averages_to_the_pooled_feature(net):
    kept = S3D(width=.125, time='keep').eval()
    kept.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 24, 32, 32)
    with torch.no_grad(): assert_close(kept(x).mean(-1), net(x))


def test_clips_do_not_see_each_other(net):
    x = torch.randn(3, 3, 8, 32, 32)
    with torch.no_grad(): assert_close(torch.cat([net(o[None]) for o in x]), net(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('gating', [False, True])
@pytest.mark.parametrize('width', [.125, .3])
def test_fuse_gives_the_same_numbers(width, gating):
    net = shaken(width, gating=gating)
    x = torch.randn(2, 3, 8, 40, 40)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad(): assert_close(fuse(net)(x), net(x), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_fuse_reaches_into_other_models(net):
    class Wrapper(nn.Module):
        def __init__(self): super().__init__(); self.image, self.video = nn.Conv2d(3, 4, 3), copy.deepcopy(net)   # 4-axis weights beside 5-axis ones
        def forward(self, x): return self.video(x)
    x = torch.randn(1, 3, 8, 32, 32)
    fast = fuse(Wrapper().train())
    assert not fast.training and not any(p.requires_grad for p in fast.parameters())
    with torch.no_grad(): assert_close(fast(x), net(x), atol=1e-4, rtol=1e-4)


def test_gradient_reaches_every_weight():
    net = S3D(width=.125, gating=True)
    net(torch.randn(4, 3, 8, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize('bad', [torch.zeros(3, 8, 32, 32), torch.zeros(1, 8, 32, 32, 3), torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8),
                                 torch.zeros(1, 3, 8, 0, 32)])
def test_refuses_what_is_no_batch_of_clips(net, bad):
    with pytest.raises(ValueError, match='expected float clips'): net(bad)


# --- files

class Boom:
    "Runs code when unpickled"
    def __reduce__(self): return os.system, (f'touch {Boom.path}',)


@pytest.mark.parametrize('wrap', [lambda o: o, lambda o: {'state_dict': o}, lambda o: {'args': o, 'state_dict': {'a': torch.zeros(1)}}])
@pytest.mark.parametrize('legacy', [False, True])
def test_a_pickle_is_never_executed(tmp_path, wrap, legacy):
    Boom.path = tmp_path/'executed'
    if legacy: (tmp_path/'m.pt').write_bytes(pickle.dumps(wrap(Boom())))
    else: torch.save(wrap(Boom()), tmp_path/'m.pt')
    with pytest.raises(ValueError, match='never executed'): read_weights(tmp_path/'m.pt')
    assert not Boom.path.exists()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damaged_files_give_one_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('w')
    suffix = data.draw(st.sampled_from(['.pt', '.safetensors']))
    path = folder/f'a{suffix}'
    weights = {'a': torch.arange(64.), 'b': torch.ones(3)}
    torch.save(weights, path) if suffix == '.pt' else save_file(weights, path)
    raw = path.read_bytes()
    path.write_bytes(raw[:data.draw(st.integers(0, len(raw)-1))])
    try: read_weights(path)
    except ValueError as e: assert str(path) in str(e)
    else: pytest.fail('a cut file was accepted')


@pytest.mark.parametrize('junk', [b'', b'hello', b'PK\x03\x04'+bytes(100), bytes(1000), '{"a": 1}'.encode()])
@pytest.mark.parametrize('suffix', ['.pt', '.pth.tar', '.safetensors'])
def test_junk_gives_one_error(tmp_path, junk, suffix):
    (tmp_path/f'a{suffix}').write_bytes(junk)
    with pytest.raises(ValueError, match='damaged'): read_weights(tmp_path/f'a{suffix}')


def test_loading_is_all_or_nothing(net):
    other = S3D(width=.125)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    weights = dict(net.state_dict()) | {'Mixed_5c.branch0.0.conv.weight': torch.zeros(1)}
    with pytest.raises(ValueError, match=r'1 tensors have another shape: Mixed_5c.branch0.0.conv.weight \(1,\)'): assign_weights(other, weights)
    with pytest.raises(ValueError, match='another shape'): assign_weights(other, weights, strict=False)    # shapes are never forgiven
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


def test_names_of_another_model_are_all_reported():
    report = load_kinetics(S3D(width=.125), nn.Linear(2, 2).state_dict(), strict=False)
    assert report.loaded == 0 and report.unexpected == ['weight', 'bias']
    assert len(report.missing) == sum(not k.endswith('num_batches_tracked') for k in S3D(width=.125).state_dict())


def test_contradicting_second_name(net):
    weights = dict(net.state_dict())
    weights['block1.0.conv1.weight'] = weights['Conv_1a.conv1.weight']+1
    with pytest.raises(ValueError, match='contradicts itself'): load_kinetics(S3D(width=.125), weights)


@pytest.mark.parametrize('config', [dict(width=.25), dict(width=.125, gating=True, time='keep', bn_eps=1e-3)])
def test_saved_with_its_settings(tmp_path, config):
    net = shaken(**config)
    save_backbone(net, tmp_path/'a.safetensors', look='natatorium', scores={'twist': .9})
    again = load_backbone(tmp_path/'a.safetensors')
    x = torch.randn(1, 3, 8, 32, 32)
    assert again.config == net.config and again.meta == {'look': 'natatorium', 'scores': {'twist': .9}} and not again.training
    with torch.no_grad(): assert_close(again(x), net(x))


def test_a_failed_save_keeps_the_old_file(tmp_path, net, monkeypatch):
    save_backbone(net, tmp_path/'a.safetensors')
    old = (tmp_path/'a.safetensors').read_bytes()
    monkeypatch.setattr('tqn.core.files.os.replace', lambda *a: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    with pytest.raises(OSError, match='nothing was changed'): save_backbone(shaken(.25), tmp_path/'a.safetensors')
    assert [p.name for p in tmp_path.iterdir()] == ['a.safetensors'] and (tmp_path/'a.safetensors').read_bytes() == old


def test_files_follow_the_umask(tmp_path, net):
    old = os.umask(0o022)
    try: save_backbone(net, tmp_path/'a.safetensors')
    finally: os.umask(old)
    assert (tmp_path/'a.safetensors').stat().st_mode & 0o777 == 0o644


def test_notes_may_be_missing_but_settings_must_fit(tmp_path, net):
    path, weights = tmp_path/'a.safetensors', {k: v.contiguous() for k, v in net.state_dict().items()}
    save_file(weights, path, {'config': json.dumps(net.config)})
    assert load_backbone(path).meta == {}
    for config, message in (('{"widht": 1}', 'make no S3D'), ('[1]', 'expected a mapping'), ('{', 'read as JSON'), ('{"width": "broad"}', 'make no S3D')):
        save_file(weights, path, {'config': config})
        with pytest.raises(ValueError, match=message) as e: load_backbone(path)
        assert str(path) in str(e.value)
    torch.save(net.state_dict(), tmp_path/'a.pt')
    with pytest.raises(ValueError, match='no settings'): load_backbone(tmp_path/'a.pt')


def test_the_shipped_weights():
    import tqn
    path = os.path.join(os.path.dirname(tqn.__file__), 'weights', 's3d_dives.safetensors')
    if not os.path.exists(path):
        with pytest.raises(ValueError, match='expected backbone weights, found none'): small_backbone()
        pytest.skip(f'no weights at {path} yet')
    assert os.path.getsize(path) <= 3*2**20
    net = small_backbone()
    with torch.no_grad(): out = net(torch.randn(1, 3, 8, 64, 64))
    assert out.shape == (1, net.d_out) and out.isfinite().all() and not net.training


# --- torchvision as a peer

@pytest.fixture(scope='module')
def torchvision_s3d():
    "torchvision's network, if torchvision can be imported beside this torch (its wheel wants operators a CPU build lacks)"
    if 'torchvision' not in sys.modules:
        lib = torch.library.Library('torchvision', 'DEF')   # kept alive by the attribute below
        for op in ('nms', 'qnms'):
            try: lib.define(f'{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
            except RuntimeError: pass
        torchvision_s3d.lib = lib
    try: from torchvision.models.video import s3d
    except Exception as e: pytest.skip(f'torchvision cannot be imported here: {e!r}')
    torch.manual_seed(0)
    return s3d().eval()


@pytest.fixture(scope='module')
def vision_names():
    "Names and shapes of torchvision's s3d state dict, written from its documented structure"
    names = {}
    def conv(p, o, i, k): names.update({f'{p}.0.weight': (o, i, *k), **{f'{p}.1.{n}': (o,) for n in ('weight','bias','running_mean','running_var')}, f'{p}.1.num_batches_tracked': ()})
    def sep(p, o, i, k): conv(f'{p}.0', o, i, (1,k,k)); conv(f'{p}.1', o, o, (k,1,1))
    sep('features.0', 64, 3, 7); conv('features.2', 64, 64, (1,1,1)); sep('features.3', 192, 64, 3)
    rows = {5:(192,64,96,128,16,32,32), 6:(256,128,128,192,32,96,64), 8:(480,192,96,208,16,48,64), 9:(512,160,112,224,24,64,64), 10:(512,128,128,256,24,64,64),
            11:(512,112,144,288,32,64,64), 12:(528,256,160,320,32,128,128), 14:(832,256,160,320,32,128,128), 15:(832,384,192,384,48,128,128)}
    for i, (d, b0, r1, b1, r2, b2, b3) in rows.items():
        conv(f'features.{i}.branch0', b0, d, (1,1,1))
        for j, r, b in ((1, r1, b1), (2, r2, b2)): conv(f'features.{i}.branch{j}.0', r, d, (1,1,1)); sep(f'features.{i}.branch{j}.1', b, r, 3)
        conv(f'features.{i}.branch3.1', b3, d, (1,1,1))
    return names | {'classifier.1.weight': (400, 1024, 1, 1, 1), 'classifier.1.bias': (400,)}


def test_torchvision_names(vision_names):
    net, weights = S3D(), {k: torch.full(s, .5) if s else torch.tensor(1) for k, s in vision_names.items()}
    report = load_torchvision(net, weights)
    assert (report.missing, report.unexpected, report.ignored) == ([], [], ['classifier.1.weight', 'classifier.1.bias'])
    assert report.loaded == len(net.state_dict()) and all((p == .5).all() for p in net.parameters()) and net.config['bn_eps'] == 1e-3


def test_torchvision_has_these_names(torchvision_s3d, vision_names):
    assert {k: tuple(v.shape) for k, v in torchvision_s3d.state_dict().items()} == vision_names


def test_same_features_as_torchvision(torchvision_s3d):
    for m in torchvision_s3d.modules():
        if isinstance(m, nn.BatchNorm3d): m.running_mean.normal_(0, .2); m.running_var.uniform_(.5, 1.5)
    net = S3D()
    load_torchvision(net, torchvision_s3d.state_dict())
    x = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad(): theirs = torchvision_s3d.features(x).mean((2,3,4))
    with torch.no_grad(): assert_close(net.eval()(x), theirs, atol=1e-5, rtol=1e-4)

@pytest.mark.parametrize('b', (1, 3))
def test_direct_convolutions_give_the_same_features(b, monkeypatch):
    "oneDNN for every kernel of the folded copy: equal to a few millionths of the maximum (at 224 pixels 5e-7), also where it is missing"
    from tqn.models.backbone import DirectConv
    torch.manual_seed(0)
    net = S3D(width=.25)
    for _ in range(2): net(torch.randn(4, 3, 8, 32, 32)+1)
    fast,x = fuse(net.eval()),torch.randn(b, 3, 8, 64, 64).to(memory_format=torch.channels_last_3d)
    assert sum(isinstance(m, DirectConv) for m in fast.modules()) == sum(isinstance(m, torch.nn.Conv3d) for m in net.modules())
    with torch.no_grad():
        direct = fast(x)
        monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
        usual = fast(x)
    assert (direct-usual).abs().max() < 3e-6*usual.abs().max()
    assert list(fuse(net).state_dict()) == list(fast.state_dict())

@pytest.mark.parametrize('dtype', (torch.float32, torch.bfloat16))
def test_a_folded_copy_takes_few_clips_at_a_time(dtype, monkeypatch):
    "The same features as clip by clip, with and without autocast, and a gradient for the pixels"
    net = shaken(.125, gating=True)
    fast, x, seen = fuse(net).to(dtype), torch.randn(5, 3, 8, 32, 32), []
    layers = fast.features
    monkeypatch.setattr(fast, 'features', lambda o: seen.append(len(o)) or layers(o))
    monkeypatch.setattr('tqn.models.backbone.prod', lambda shape: 8*8*224**2)                     # as if the clips were as large as two of a full network
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    with torch.no_grad():
        out = fast(x)
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16): assert_close(fast(x), out, atol=0, rtol=0)
    assert seen == [2,2,1]*2 and out.dtype == dtype and net(x[:1]).dtype == torch.float32
    one = torch.cat([layers(o[None].to(dtype)) for o in x])
    assert (out-one).abs().max() <= (3e-6 if dtype == torch.float32 else .02)*one.abs().max()
    if dtype == torch.float32:
        g = [torch.autograd.grad(m(y := x.clone().requires_grad_()).square().sum(), y)[0] for m in (fast, net)]
        assert (g[0]-g[1]).abs().max() < 1e-3*g[1].abs().max()

@pytest.mark.parametrize('size', [(4,7,7), (1,5,6), (2,1,3), (1,1,1)])
def test_pooling_axis_by_axis_gives_the_same_bits(size):
    from tqn.models.backbone import DirectPool
    x = torch.randn(2, 5, *size)
    x[0,0,0,0,0], x[1,1] = float('nan'), float('-inf')
    for o in (x, x.to(memory_format=torch.channels_last_3d), x.bfloat16(), x.double(), x[:,1:3], x[:0]):
        assert_close(DirectPool(3, 1, 1)(o), torch.nn.functional.max_pool3d(o, 3, 1, 1) if len(o) else o, atol=0, rtol=0, equal_nan=True)
