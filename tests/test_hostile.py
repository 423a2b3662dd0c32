"Names that a browser, a notebook or matplotlib would take for something else: in every view, page and figure of the kit"
import ast, re
from html.parser import HTMLParser
from pathlib import Path
import numpy as np, pytest, torch
import tqn
from tqn.attention.localise import ClipMaps, localise
from tqn.attention.scores import Evaluation
from tqn.data.items import Item, VideoSet
from tqn.questions.phrases import read_names, read_rules
from tqn.questions.queries import Query, QuerySet

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

RULES = '[<b>bold] <i>In words?</i>\nturn | <b>bold: <img src=x>\ntwist | <b>bold: <u>turn</u>\n'
VIEWS = {'QuerySet': lambda: queries(), 'Evaluation': evaluation, 'Localisation': lambda: localise(maps(NAMES), flight=NAMES[0], apart=('<b>bold', NAMES[1])), 'VideoSet': item_set,
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
