"Packaging, read from settings.ini so that every fact stands in one place."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

parser = ConfigParser(delimiters=['='])
parser.read('settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], license='Apache-2.0',
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    package_dir={'': '.'},        # said, and an editable install is one line in a .pth: import tqn then works in the folder that contains the clone, too
    packages=find_packages(include=['tqn', 'tqn.*']), include_package_data=True,
    package_data={'tqn': ['static/*', 'static/*/*', 'weights/*', 'grids/*', 'grids/*/*', 'presets/*', 'py.typed']},
    python_requires='>=' + cfg['min_python'], install_requires=cfg['requirements'].split(),
    extras_require={'dev': [r for k in ('dev', 'hf', 'image') for r in cfg[f'{k}_requirements'].split()], 'hf': cfg['hf_requirements'].split(), 'image': cfg['image_requirements'].split()},
    entry_points={'console_scripts': cfg['console_scripts'].split()},
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research', 'Programming Language :: Python :: 3.11',
                 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    zip_safe=False)
