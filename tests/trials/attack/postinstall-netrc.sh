# A postinstall script takes ~/.netrc
# expect: 86 .netrc 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
node_thief .netrc >evil.js
echo '{"name":"a","version":"1.0.0","scripts":{"postinstall":"node evil.js"}}' >package.json
npm install --package-lock-only --ignore-scripts --offline >/dev/null 2>&1
guard npm ci --offline
