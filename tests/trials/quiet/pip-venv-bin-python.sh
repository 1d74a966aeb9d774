# The environment's python by path, -m pip, a requirements file
# network: online
# expect: quiet
. "$(dirname "$0")/../lib.sh"
export PATH=$(dirname "$(python3 -c 'import sys; print(sys.executable)')"):$PATH
echo six >requirements.txt
step <<'X'
python3 -m venv .venv
.venv/bin/python -m pip install -r requirements.txt
.venv/bin/python -m pip list
X
