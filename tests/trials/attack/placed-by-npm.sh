# A dependency ships bin/npm-cli.js; npm itself puts it there, and the project's test runs it
# expect: 86 .npmrc 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
mkdir -p e/bin; node_thief .npmrc >e/bin/npm-cli.js; echo '{"name":"e","version":"1.0.0","bin":{"npm":"bin/npm-cli.js"}}' >e/package.json
(cd e && npm pack --silent >/dev/null && mv e-1.0.0.tgz ..); rm -r e
echo '{"name":"a","version":"1.0.0","dependencies":{"e":"file:e-1.0.0.tgz"},"scripts":{"test":"node node_modules/e/bin/npm-cli.js"}}' >package.json
step <<'X'
npm install --offline
npm test
X
