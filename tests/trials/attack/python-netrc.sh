# A python script takes ~/.netrc itself, not by a library
# expect: 86 .netrc 203.0.113.7:443
# limit: libraries open ~/.netrc for every request, so one program doing both may be at its work
. "$(dirname "$0")/../lib.sh"
python_thief '~/.netrc' >thief.py
printf 'all:\n\tpython3 thief.py\n' >Makefile
guard make
