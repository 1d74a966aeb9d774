# A virtual environment of a python that no version manager wraps
# network: online
# expect: quiet
. "$(dirname "$0")/../lib.sh"
export PATH=$(dirname "$(python3 -c 'import sys; print(sys.executable)')"):$PATH
step <<'X'
python3 -m venv .venv
. .venv/bin/activate
pip install six==1.16.0
pip install --no-binary :all: wheel
python -c 'import six'
X
