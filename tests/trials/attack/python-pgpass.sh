# A python script takes ~/.pgpass: python counts as an owner of that store
# expect: 86 .pgpass 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
echo '203.0.113.9:5432:*:*:made-up' >~/.pgpass; chmod 600 ~/.pgpass
python_thief '~/.pgpass' >thief.py
printf 'all:\n\tpython3 thief.py\n' >Makefile
guard make
