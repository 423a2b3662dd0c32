"The query decoder against torch's own layers and against naive loops"
import math

import golden
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from tqn.models.decoder import CrossAttention, QueryDecoder, rotate, sine_positions
from tqn.models.adapters import published_name

KINDS = ['none', 'sine', 'learned', 'rotary']


def decoder(**kwargs):
    "A decoder in eval mode with no parameter at 0 or 1"
    torch.manual_seed(0)
    dec = QueryDecoder(**{**dict(n_queries=3, d_model=16, n_layers=2, n_heads=2, d_memory=12), **kwargs}).eval()
    for p in dec.parameters():
        if p.ndim == 1 or p.shape == (3, 1): nn.init.normal_(p, 1., .3)
    if dec.positions.table is not None: nn.init.normal_(dec.positions.table)
    return dec


def naive(dec, memory):
    "One video (n, m), written out with loops over heads, queries and rows: responses (k, d), attention (layers, heads, k, n)"
    x, maps = dec.queries, []
    places = dec.positions(memory[None])
    for layer in dec.layers:
        if layer.self_attn is not None:
            h = layer.norm1(x)[None]
            x = x+layer.self_attn(h, h, h)[0][0]
        c, h = layer.cross, layer.norm2(x)
        e = h.shape[-1]//c.n_heads
        keys = memory if places is None else memory+places
        q, k, v = c.query(h), keys@c.key.weight.T, memory@c.value.weight.T+c.value.bias
        if c.log_scale is not None: q = q*c.log_scale.exp()
        attn, out = torch.zeros(c.n_heads, len(q), len(memory)), torch.zeros_like(q)
        for head in range(c.n_heads):
            part = slice(head*e, (head+1)*e)
            kk = rotate(k[None,None,:,part])[0,0] if c.rotary else k[:,part]
            for i in range(len(q)):
                score = torch.stack([q[i,part]@kk[j] for j in range(len(memory))])/e**.5
                attn[head,i] = score.softmax(0)
                out[i,part] = sum(attn[head,i,j]*v[j,part] for j in range(len(memory)))
        x = x+c.out(out)
        x = x+layer.linear2(layer.linear1(layer.norm3(x)).relu())
        maps.append(attn)
    return dec.norm(x), torch.stack(maps)


@pytest.mark.parametrize('self_attention', [True, False])
@pytest.mark.parametrize('temperature', [False, True])
@pytest.mark.parametrize('positions', KINDS)
def test_against_loops(positions, temperature, self_attention):
    dec, memory = decoder(positions=positions, temperature=temperature, self_attention=self_attention), torch.randn(6, 12)
    with torch.no_grad():
        r, attn = dec(memory[None])
        nr, nattn = naive(dec, memory)
    assert_close(r[0], nr, atol=1e-5, rtol=1e-4)
    assert_close(attn[0], nattn, atol=1e-6, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 3), n=st.integers(1, 9), k=st.integers(1, 4), heads=st.sampled_from([1,2,4]), m=st.sampled_from([4,8,20]), data=st.data())
def test_cross_attention_is_multihead_attention(b, n, k, heads, m, data):
    "Outputs, attention and the gradients of everything, padding included, key bias whatever it is"
    lengths = data.draw(st.lists(st.integers(1, n), min_size=b, max_size=b))
    valid = torch.arange(n) < torch.tensor(lengths)[:,None]
    ours = CrossAttention(8, heads, m, dropout=0.)
    for o in (ours.query.bias, ours.value.bias, ours.out.bias): nn.init.normal_(o)
    mha = nn.MultiheadAttention(8, heads, kdim=m, vdim=m, batch_first=True)
    names = dict(zip(('q_proj_weight','k_proj_weight','v_proj_weight'), (ours.query.weight, ours.key.weight, ours.value.weight)))
    bias = torch.cat([ours.query.bias, torch.randn(8), ours.value.bias])
    state = {'in_proj_bias': bias, 'out_proj.weight': ours.out.weight, 'out_proj.bias': ours.out.bias}
    if m == 8: state['in_proj_weight'] = torch.cat(list(names.values()))
    else: state |= names
    mha.load_state_dict(state)
    x, memory = torch.randn(b, k, 8), torch.randn(b, n, m)
    out, attn = ours(x, memory, valid)
    theirs, their_attn = mha(x, memory, memory, key_padding_mask=~valid, average_attn_weights=False)
    assert_close(out, theirs, atol=1e-5, rtol=1e-4); assert_close(attn, their_attn, atol=1e-6, rtol=1e-4)
    out.square().sum().backward(); theirs.square().sum().backward()
    theirs = mha.in_proj_weight.grad if m == 8 else torch.cat([mha.q_proj_weight.grad.flatten(), mha.k_proj_weight.grad.flatten(), mha.v_proj_weight.grad.flatten()])
    grads = torch.cat([o.weight.grad.flatten() for o in (ours.query, ours.key, ours.value)])
    assert_close(grads, theirs.flatten(), atol=1e-3, rtol=1e-3)


def test_dropout_on_attention_is_the_same_too():
    "With dropout the weights no longer sum to 1; the value bias has to shrink with them"
    ours = CrossAttention(8, 2, 8, dropout=.5).train()
    nn.init.normal_(ours.value.bias, 5.)
    x, memory, valid = torch.randn(2, 3, 8), torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool)
    torch.manual_seed(1); out, attn = ours(x, memory, valid)
    torch.manual_seed(1); dropped = ours.dropout(attn)
    values = rearrange(ours.value(memory), 'b n (heads e) -> b heads n e', heads=2)
    assert_close(out, ours.out(rearrange(dropped@values, 'b heads k e -> b k (heads e)')))
    assert_close(attn.sum(-1), torch.ones(2, 2, 3))        # what is returned is the distribution before dropout


@settings(max_examples=20, deadline=None)
@given(positions=st.sampled_from(KINDS), n=st.integers(1, 6), pad=st.integers(0, 4), junk=st.sampled_from([0., 7., float('nan'), float('inf')]))
def test_padding_changes_nothing(positions, n, pad, junk):
    dec = decoder(positions=positions)
    memory = torch.randn(2, n, 12)
    padded = torch.cat([memory, torch.full((2, pad, 12), junk)], 1)
    valid = (torch.arange(n+pad) < n).expand(2, -1)
    with torch.no_grad(): (r, attn), (pr, pattn) = dec(memory), dec(padded, valid)
    assert_close(pr, r, atol=1e-5, rtol=1e-4); assert_close(pattn[...,:n], attn, atol=1e-6, rtol=1e-4)
    assert (pattn[...,n:] == 0).all()


def test_gaps_in_the_middle_are_skipped():
    "valid need not be a prefix: a hidden clip is as if it were not there"
    dec, memory = decoder(), torch.randn(1, 6, 12)
    keep = torch.tensor([True, False, True, True, False, True])
    with torch.no_grad(): assert_close(dec(memory, keep[None])[0], dec(memory[:,keep])[0])


def test_videos_do_not_mix():
    dec, memory = decoder(), torch.randn(3, 5, 12)
    with torch.no_grad(): assert_close(torch.cat([dec(m[None])[0] for m in memory]), dec(memory)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('positions', KINDS)
def test_order(positions):
    dec, memory = decoder(positions=positions), torch.randn(1, 6, 12)
    with torch.no_grad(): moved = (dec(memory.flip(1))[0]-dec(memory)[0]).abs().max()
    assert moved < 1e-5 if positions == 'none' else moved > 1e-3


@pytest.mark.parametrize('positions', KINDS)
def test_every_parameter_learns(positions):
    dec = decoder(positions=positions, temperature=True, n_positions=6, dropout=0.).train()
    r, attn = dec(torch.randn(2, 6, 12, requires_grad=True))
    (r.sin().sum()+attn.square().sum()).backward()
    for name, p in dec.named_parameters(): assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 6), k=st.integers(2, 4), i=st.integers(0, 3), seed=st.integers(0, 99))
def test_queries_that_do_not_talk_answer_as_if_alone(n, k, i, seed):
    "Another query can be anything: responses and maps of the rest stay; where they talk, they do not"
    i, memory = i%k, torch.randn(2, n, 12, generator=torch.Generator().manual_seed(seed))
    for self_attention in (False, True):
        dec = decoder(n_queries=k, self_attention=self_attention)
        with torch.no_grad():
            r, attn = dec(memory)
            dec.queries[i] += 3*torch.randn(16, generator=torch.Generator().manual_seed(seed))
            other, looked = dec(memory)
        rest = [j for j in range(k) if j != i]
        if self_attention: assert (other[:,rest]-r[:,rest]).abs().max() > 1e-4
        else: assert_close(other[:,rest], r[:,rest]); assert_close(looked[...,rest,:], attn[...,rest,:])
        assert (other[:,i]-r[:,i]).abs().max() > 1e-4
    alone = decoder(n_queries=k, self_attention=False)
    with torch.no_grad():
        whole = alone(memory)[0]
        alone.queries = nn.Parameter(alone.queries[i:i+1])
        assert_close(alone(memory)[0][:,0], whole[:,i], atol=1e-5, rtol=1e-4)


def test_talking_is_the_default_and_all_that_silence_takes_away():
    "The keys of a published checkpoint stay; without talk self-attention and its norm are gone, and nothing else"
    keys = lambda **kw: {n: tuple(p.shape) for n, p in QueryDecoder(5, d_model=16, **kw).state_dict().items()}
    plain, silent = keys(), keys(self_attention=False)
    assert plain == keys(self_attention=True) and set(plain)-set(silent) == {n for n in plain if 'self_attn' in n or 'norm1' in n} and silent.items() <= plain.items()
    published = {published_name(k).removeprefix('decoder.') for k, *_ in golden.keys() if k.startswith('decoder.') and 'multihead_attn.in_proj' not in k}
    assert published <= set(plain) and {f'layers.{l}.self_attn.{w}' for l in range(4) for w in ('in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias')} <= published
    dec = decoder(self_attention=False, dropout=0.).train()
    dec(torch.randn(2, 6, 12))[0].sin().sum().backward()
    for name, p in dec.named_parameters(): assert p.grad is not None and p.grad.any(), name


def test_published_preset_has_no_parameters_of_options():
    names = [n for n, _ in QueryDecoder(5, d_model=16).named_parameters()]
    assert not [n for n in names if 'log_scale' in n or 'table' in n]
    assert not [n for n in names if n.endswith('key.bias')]
    published = sum(math.prod(shape) for k, shape, _ in golden.keys() if k.startswith(('decoder.', 'query_embed.')))
    with torch.device('meta'): assert sum(p.numel() for p in QueryDecoder(5).parameters()) == published-4*1024      # the four key biases


@pytest.mark.parametrize('settings', [dict(positions=p) for p in KINDS] + [dict(convolution=3), dict(temperature=True), dict(d_memory=16)], ids=str)
def test_gradient_into_online_rows_alone(settings):
    "The same bits forward, the same gradients of all weights, the same gradient of the rows that are named; a decoder that mixes or projects rows gives it to all"
    dec, memory, valid = decoder(dropout=0., **settings).train(), torch.randn(3, 6, settings.get('d_memory', 12)), torch.arange(6) < torch.tensor([[6],[4],[1]])
    rows = torch.tensor([[1, 2], [3, 0], [0, -1]])
    def gradients(*online):
        x = memory.clone().requires_grad_()
        dec.zero_grad()
        r, attn = dec(x, valid, *online)
        (r.sin().sum()+attn.square().sum()).backward()
        return r.detach(), x.grad, {n: p.grad.clone() for n, p in dec.named_parameters()}
    (r, g, weights), (all_r, all_g, all_weights) = gradients(rows), gradients()
    named = torch.zeros(3, 6, dtype=torch.bool)
    named[[0, 0, 1, 1, 2],[1, 2, 3, 0, 0]] = True
    if 'convolution' in settings or settings.get('positions') == 'rotary': named[:] = True
    assert torch.equal(r, all_r) or 'convolution' in settings and (r-all_r).abs().max() < 1e-5
    assert_close(g, all_g*named[...,None], atol=1e-6, rtol=1e-5)
    assert g[0,1].any() and bool(g[0,0].any()) == bool(named[0,0])
    for n in weights: assert_close(weights[n], all_weights[n], atol=1e-6, rtol=1e-5)


def test_no_gradient_as_large_as_the_memory():
    "With a long memory and one online row, no product or sum of the way back is as large as the memory; without, each of two layers makes two"
    dec, memory = decoder(d_memory=16, dropout=0.).train(), torch.randn(2, 500, 16, requires_grad=True)
    sizes = []
    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if torch.is_tensor(out) and out.shape == memory.shape: sizes.append(str(func))
            return out
    def count(*online):
        r, _ = dec(memory, None, *online)
        sizes.clear()
        with Watch(): r.sum().backward()
        return sum('bmm' in o or 'add' in o for o in sizes)
    assert count(torch.tensor([[3], [7]])) == 0 and count() >= 4


def test_sine_positions_do_not_depend_on_the_length():
    assert_close(sine_positions(50, 12)[:7], sine_positions(7, 12))


def test_half_precision():
    dec, memory = decoder(), torch.randn(1, 5, 12)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16): r, attn = dec(memory)
    with torch.no_grad(): assert_close(r.float(), dec(memory)[0], atol=.15, rtol=.1)
    assert attn.isfinite().all()


@pytest.mark.parametrize('call, message', [
    (lambda: QueryDecoder(3, d_model=10, n_heads=4), 'must divide'), (lambda: QueryDecoder(3, d_model=12, n_heads=4, positions='rotary'), 'even parts'),
    (lambda: QueryDecoder(3, d_model=8, positions='cos'), 'positions must be'), (lambda: decoder()(torch.randn(2, 5, 16)), '12 wide, got 16'),
    (lambda: decoder()(torch.randn(5, 12)), r'features \(b, n, d\)'), (lambda: decoder()(torch.randn(2, 0, 12)), 'n ≥ 1'),
    (lambda: decoder()(torch.randn(2, 5, 12), torch.ones(2, 4, dtype=torch.bool)), r'valid as bool \(2, 5\)'),
    (lambda: decoder()(torch.randn(2, 5, 12), torch.ones(2, 5)), 'got torch.float32'),
    (lambda: decoder()(torch.randn(2, 5, 12), torch.tensor([[False]*5, [True]*5])), 'video 0 of the batch has none'),
    (lambda: decoder(positions='learned', n_positions=4)(torch.randn(2, 5, 12)), 'reach 4 clips')])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message): call()
