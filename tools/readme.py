"Write README.md from nbs/index.ipynb: `python tools/readme.py`, or `--check` to see whether they agree."
import argparse, re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK, README, IMAGES = 'nbs/index.ipynb', 'README.md', 'nbs/images'
OUTPUTS = ['text/markdown', 'image/png', 'image/jpeg', 'text/plain']  # what GitHub shows well, best first
LINK = re.compile(r'(\]\(|\b(?:src|href)=")([^)"\s]+)')
DIRECTIVE = re.compile(r'^#\|\s*([\w_]+):?\s*(\S*).*\n?', re.M)


def visible(cell):
    "The cell as a reader of the README sees it, or None where nothing of it is shown"
    directives = dict(DIRECTIVE.findall(cell.source)) if cell.cell_type == 'code' else {}
    if 'hide' in directives or directives.get('include') == 'false': return None
    if directives.get('echo') == 'false': cell.source = ''
    if directives.get('output') == 'false': cell.outputs = []
    if cell.cell_type == 'code': cell.source = DIRECTIVE.sub('', cell.source).strip('\n')
    return cell


def relink(markdown, folder='nbs'):
    "Links that were relative to the notebook's folder, made relative to the repository's root"
    def one(match):
        start, link = match.groups()
        if re.match(r'[a-z][a-z0-9+.-]*:|#|/', link): return match[0]
        path = Path(folder)
        while link.startswith('../'): path, link = path.parent, link[3:]
        return start + (path/link.removeprefix('./')).as_posix()
    parts = re.split(r'(^```.*?^```$)', markdown, flags=re.M | re.S)  # code blocks stay as they are
    return ''.join(p if p.startswith('```') else LINK.sub(one, p) for p in parts)


def render(root=ROOT):
    "The README's text, and the pictures among the outputs as {path: bytes}"
    nb = nbformat.read(root/NOTEBOOK, as_version=4)
    nb.metadata['language_info'] = {'name': 'python'}  # which nbdev_clean takes out
    nb.cells = [cell for cell in map(visible, nb.cells) if cell is not None]
    config = Config({'NbConvertBase': {'display_data_priority': OUTPUTS},
                     'ExtractOutputPreprocessor': {'output_filename_template': 'readme_{cell_index}_{index}{extension}'}})
    text, resources = MarkdownExporter(config=config).from_notebook_node(nb, resources={'output_files_dir': 'images'})
    text = re.sub(r'^```python\n\s*```\n', '', text, flags=re.M)  # cells whose code is not shown
    text = re.sub(r'\n{3,}', '\n\n', re.sub(r'^ +$', '', text, flags=re.M)).strip() + '\n'
    pictures = {f'{IMAGES}/{Path(k).name}': v for k, v in resources.get('outputs', {}).items()}
    return relink(text), pictures


def differences(root=ROOT):
    "The files that do not agree with the notebook"
    text, pictures = render(root)
    wanted = {README: text.encode(), **pictures}
    stale = {p.relative_to(root).as_posix() for p in (root/IMAGES).glob('readme_*')} - set(pictures)
    return sorted(stale | {k for k, v in wanted.items() if not (root/k).exists() or (root/k).read_bytes() != v})


def write(root=ROOT):
    "Write README.md and the pictures it shows; pictures it no longer shows are removed"
    text, pictures = render(root)
    for old in (root/IMAGES).glob('readme_*'): old.unlink()
    for path, data in pictures.items():
        (root/path).parent.mkdir(parents=True, exist_ok=True)
        (root/path).write_bytes(data)
    (root/README).write_text(text, encoding='utf-8')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='change nothing; exit 1 where they differ')
    if parser.parse_args().check:
        if stale := differences(): sys.exit(f"not what nbs/index.ipynb says: {', '.join(stale)}; run python tools/readme.py")
    else: write()
