"Names that a browser, a notebook or matplotlib would take for something else: in every view, page and figure of the kit"
import ast, io, re, warnings
from html.parser import HTMLParser
from pathlib import Path
import matplotlib; matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.text import Text
import numpy as np, pandas as pd, pytest, torch
import tqn
from made_grids import made_run
from test_figure import made_up
from tqn.attention.figure import draw_heat, plot_attention
from tqn.attention.localise import ClipMaps, localise, plot_localisation
from tqn.attention.marks import plot_sheet
from tqn.attention.records import Records
from tqn.attention.moments import Retrieval, plot_reliability
from tqn.attention.scores import Evaluation, confusion_matrix, draw_confusion, plot_confusion, plot_scores
from tqn.core import text
from tqn.data.items import Item, VideoSet
from tqn.features.bank import FeatureBank, plot_ages
from tqn.questions.phrases import read_names, read_rules
from tqn.questions.queries import Query, QuerySet
from tqn.studies.report import attention_scores, confusions, plot_attention_scores, plot_counts, plot_differences, plot_layers, plot_maps, plot_overview, plot_squares, squares, summary
from tqn.training.run import Progress, Run, TrainConfig, log_row
from tqn.training.stage2 import plot_staleness
from tqn.widgets.browse import plot_confused, plot_records
from tqn.widgets.compare import Side, plot_compare

NAMES = ['<b>bold', '"><script>x()</script>', "'><img src=x onerror=alert(1)>", '&lt;i&gt;', 'a$b', r'$\frac$', '_x', '</td></table></title>', '{0} {x}', r'\(y\)', '-->']
ROOT = Path(tqn.__file__).parent

class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__(); self.tags,self.text,self.classes = [],'',[]
        self.feed(text); self.close()
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag); self.classes.append(dict(attrs).get('class') or '')
        assert not [k for k,_ in attrs if k.startswith('on') or k=='src'], (tag, attrs)
    def handle_data(self, data): self.text += data

def queries(names=NAMES): return QuerySet([Query(n, [f'{n} yes', f'{n} no'], text=n) for n in names], classes=[(f'{n} 0', [f'{m} {"yes" if m==n else "no"}' for m in names]) for n in names])

def maps(names):
    g = np.random.default_rng(0)
    return [ClipMaps(f'{n}{i}', {q: g.dirichlet(np.ones(4)) for q in names}, {q: (8,16) for q in names}, 32) for i,n in enumerate(names)]

def evaluation(names=NAMES, n=6):
    g,qs = torch.Generator().manual_seed(0),queries(names)
    ev = Evaluation(qs)
    ev.add([f'{names[i%len(names)]}{i}' for i in range(n)], {q: torch.randn(n, 2, generator=g) for q in qs.names}, {q: torch.randint(0, 2, (n,), generator=g) for q in qs.names},
           {'query': torch.randn(n, len(names), generator=g)}, torch.randint(0, len(names), (n,), generator=g))
    return ev

def item_set(): return VideoSet('<b>bold', Path('<b>bold'), queries(), {n: [Item(n, f'{n}.mp4')] for n in NAMES}, NAMES)

def retrieval():
    over = {'own': np.full((1, 2, len(NAMES), 1), .6), '<b>bold': np.zeros((1, 2, len(NAMES), 1))}
    return Retrieval(list(NAMES), NAMES[:2], over, np.ones((1, 2, len(NAMES))), {q: np.ones((1, 1, 5)) for q in NAMES}, None)

RULES = '[<b>bold] <i>In words?</i>\nturn | <b>bold: <img src=x>\ntwist | <b>bold: <u>turn</u>\n'
VIEWS = {'QuerySet': lambda: queries(), 'Evaluation': evaluation, 'Localisation': lambda: localise(maps(NAMES), flight=NAMES[0], apart=('<b>bold', NAMES[1])), 'VideoSet': item_set, 'Retrieval': retrieval,
         'Rules': lambda: read_rules(RULES, '<b>mine'), 'Report': lambda: read_names(['turn <script>', 'twist <b>bold'], read_rules(RULES, '<b>mine'))[2]}

@pytest.mark.parametrize('name', VIEWS)
def test_views_show_names_letter_by_letter(name):
    shown = Parsed(VIEWS[name]()._repr_html_())
    assert not {'script', 'img', 'u', 'title'} & set(shown.tags) and 'mathjax_ignore' in shown.classes[0]
    assert '<b>bold' in shown.text or '<u>turn</u>' in shown.text

def test_every_view_is_tested():
    "A class that shows itself as HTML stands above, and escapes by the one function"
    found = [(n.name, ast.unparse(f)) for p in ROOT.rglob('*.py') for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.ClassDef) for f in n.body if getattr(f, 'name', '')=='_repr_html_']
    assert {n for n,_ in found}==set(VIEWS)
    assert not [n for n,code in found if 'html_view' not in code and 'questions_html' not in code]

def test_one_function_escapes():
    assert [p.name for p in ROOT.rglob('*.py') if re.search(r'html\.escape|from html import', p.read_text())]==['text.py']


# Figures

SIGNS = ['a$b$c', r'$\frac$', '_x', '<b>', 'x_{$']

def answered():
    a = made_up(len(SIGNS), 6)
    a.name,a.names,a.answers = SIGNS[1], [*SIGNS, 'class'], {q: [(SIGNS[0], .6), (SIGNS[1], .3), (SIGNS[2], .1)] for q in [*SIGNS, 'class']}
    return a

def shown_records():
    g,n,k = np.random.default_rng(0),6,len(SIGNS)
    said,truth = g.integers(0, k, (2, n, k))
    return Records([f'{s}.mp4' for s in SIGNS]+['v'], list(SIGNS), {q: SIGNS for q in SIGNS}, {}, dict(said=said, truth=truth, p=g.random((n, k)), loss=g.random((n, k)), entropy=g.random((n, k)), heads=g.random((n, k)),
        right=(said==truth).astype(int), readings=g.random(n), clips=g.integers(8, 60, n), strips=g.integers(0, 255, (n, k, 12), np.uint8)))

def results(): return {r: [made_run(np.random.default_rng(i), ['v','w','x'], QuerySet([Query(q, SIGNS, kind='count') for q in SIGNS])) for i in range(2)] for r in SIGNS}

def trained(folder):
    for e in range(3): log_row(folder/'log.csv', {'epoch': e, 'step': e, 'loss': 1., 'val_loss': 1., **{f'val_{q}': .5 for q in SIGNS}}); log_row(folder/'steps.csv', {'step': e, 'loss': 1.})
    return Run(folder, TrainConfig(), Progress(best_epoch=1))

def ages(folder):
    bank = FeatureBank.create(folder/'b', {q: 3 for q in SIGNS}, 4)
    try: return plot_ages(bank).figure
    finally: bank.close()

def heat(draw):
    fig,ax = plt.subplots(); draw(ax); return fig

def example_maps(): return pd.DataFrame([dict(row=r, id='$v$', question=q, start=0., end=1., **{str(i): .1*i for i in range(1, 6)}) for r in SIGNS[:2] for q in SIGNS])

def side(name): return Side(name, np.ones((1, 1, len(SIGNS), 4))/4, np.arange(5), SIGNS, {q: [(SIGNS[0], .9)] for q in SIGNS}, {})

def visits(): return [dict(step=float(i), epoch=0., id=q, start=0., count=1., age=1., drift=.1, stale=1.) for i,q in enumerate(SIGNS)]

DRAWN = {'draw_heat': lambda f: heat(lambda ax: draw_heat(ax, np.eye(5), SIGNS, SIGNS)), 'plot_attention': lambda f: plot_attention(answered()),
         'plot_scores': lambda f: plot_scores(evaluation(SIGNS)).figure, 'plot_confusion': lambda f: plot_confusion(evaluation(SIGNS)),
         'draw_confusion': lambda f: heat(lambda ax: draw_confusion(ax, np.eye(5, dtype=int), SIGNS[0], SIGNS)),
         'plot_localisation': lambda f: plot_localisation(localise(maps(SIGNS), flight=SIGNS[0])), 'plot_ages': ages, 'plot': lambda f: trained(f).plot(),
         'plot_staleness': lambda f: plot_staleness(Run(f, TrainConfig()), seen=visits()), 'plot_records': lambda f: plot_records(shown_records(), np.arange(6), title=SIGNS[1]),
         'plot_confused': lambda f: plot_confused(shown_records()), 'plot_compare': lambda f: plot_compare(side(SIGNS[0]), side(SIGNS[1])),
         'plot_differences': lambda f: plot_differences(summary(results(), SIGNS[0]), title=SIGNS[1]), 'plot_overview': lambda f: plot_overview({'test': summary(results(), SIGNS[0]), 'where': attention_scores(results())}, title=SIGNS[1]),
         'plot_attention_scores': lambda f: plot_attention_scores(attention_scores(results()), title=SIGNS[1]), 'plot_layers': lambda f: plot_layers(attention_scores(results()), SIGNS[:2]),
         'plot_squares': lambda f: plot_squares(squares(results()), SIGNS[1]), 'plot_maps': lambda f: plot_maps(example_maps()), 'plot_counts': lambda f: plot_counts(confusions(results()), SIGNS[:2], SIGNS[:2]),
         'plot_sheet': lambda f: plot_sheet({s: [(dict(film=s, start=1., end=2., peak=3, score=2., probability=.5, trust=None, answer=s, question=s), None)] for s in SIGNS}, SIGNS[1]),
         'plot_reliability': lambda f: heat(lambda ax: (ax.set_title(SIGNS[1]), plot_reliability(pd.DataFrame(dict(trust=[.2, .8], right=[.1, .9])), ax)))}

def written(fig): return [t.get_text() for t in fig.findobj(Text)]

@pytest.mark.parametrize('name', DRAWN)
def test_figures_show_names_letter_by_letter(name, tmp_path):
    fig = DRAWN[name](tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fig.savefig(io.BytesIO(), format='png', dpi=40)           # outside of the function that drew, as a notebook does
    said = [t for t in fig.findobj(Text) if t.get_visible() and any(s in t.get_text() for s in SIGNS)]
    assert said and not [t.get_text() for t in said if t._preprocess_math(t.get_text()) != (t.get_text(), False)]
    if name in ('plot', 'plot_layers'): assert set(SIGNS) <= {t.get_text() for t in fig.axes[-1].get_legend().get_texts()}     # the one that begins with _, too
    plt.close('all')

def makes_figures(f): return re.search(r'(plt|fig|figure)\.(subplots|figure)\(|[^.\w]Figure\(figsize', ast.unparse(f)) is not None

def test_every_figure_is_tested():
    "What makes a figure is marked, and every marked function stands above"
    found = {n.name: n for p in ROOT.rglob('*.py') for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.FunctionDef)}
    marked = {name for name,n in found.items() if 'plain_text' in map(ast.unparse, n.decorator_list)}
    assert marked==set(DRAWN) and {name for name,n in found.items() if makes_figures(n)}-marked=={'_panels'}
    assert not [p for p in ROOT.rglob('*.py') if p.name != 'text.py' and 'parse_math' in p.read_text()]

def test_more_ticks_are_no_formulas_either():
    fig = plot_scores(evaluation(SIGNS)).figure
    fig.axes[0].set_yticks([0., .5, 1.])                  # by the user, afterwards
    fig.savefig(io.BytesIO(), format='png'); plt.close('all')

def test_axes_of_the_user_keep_their_formulas_to_come():
    fig,ax = plt.subplots()
    plot_scores(evaluation(SIGNS), ax)
    ax.set_title('$x^2$')
    assert ax.title.get_parse_math() and not any(t.get_parse_math() for t in ax.get_yticklabels())
    plt.close('all')

# Letters

@pytest.fixture
def font(tmp_path):
    "A font with four letters that matplotlib's own has not, installed for a while"
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib.font_manager import fontManager
    letters,pen = '転捻\U00017000\U00017001',TTGlyphPen(None)
    pen.moveTo((0, 0)); pen.lineTo((0, 800)); pen.lineTo((800, 800)); pen.closePath()
    b = FontBuilder(1000, isTTF=True)
    b.setupGlyphOrder(['.notdef', 'box']); b.setupCharacterMap({ord(c): 'box' for c in letters}); b.setupGlyf({'.notdef': pen.glyph(), 'box': pen.glyph()})
    b.setupHorizontalMetrics({'.notdef': (900, 0), 'box': (900, 0)}); b.setupHorizontalHeader(ascent=800, descent=-200)
    b.setupNameTable({'familyName': 'Noto Sans Made Up', 'styleName': 'Regular'}); b.setupOS2(); b.setupPost(); b.save(tmp_path/'made.ttf')
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path/'made.ttf'); text.fonts_for.cache_clear()
    yield letters
    fontManager.ttflist = before; text.fonts_for.cache_clear()

def test_letters_get_a_font_that_has_them(font):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fig = heat(lambda ax: draw_heat(ax, np.eye(2), [f'Salto {font[2:]}', 'twist'], [font[2:], 'ёж']))
        fig.savefig(io.BytesIO(), format='png')
    by = {t.get_text(): t.get_fontfamily() for t in fig.findobj(Text)}
    assert by[f'Salto {font[2:]}'][-1]==by[font[2:]][-1]=='Noto Sans Made Up' and 'Noto Sans Made Up' not in by['twist']+by['ёж']
    plt.close('all')

def test_letters_without_a_font_are_said_once(monkeypatch):
    monkeypatch.setattr(text, '_told', set()); monkeypatch.setattr(text, 'fonts_for', lambda letters: ((), frozenset(letters)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        for _ in range(3): heat(lambda ax: draw_heat(ax, np.eye(2), ['転', '捻'], ['転', 'a'])).savefig(io.BytesIO(), format='png')
    assert len(said)==1 and 'Noto Sans CJK' in str(said[0].message) and 'install' in str(said[0].message)
    plt.close('all')
