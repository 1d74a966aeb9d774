# The same by its link in node_modules/.bin, which npm test puts first in the PATH
# expect: 86 .npmrc 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
mkdir -p e/bin; { echo '#!/usr/bin/env node'; node_thief .npmrc; } >e/bin/npm-cli.js; chmod +x e/bin/npm-cli.js; echo '{"name":"e","version":"1.0.0","bin":{"npm":"bin/npm-cli.js"}}' >e/package.json
(cd e && npm pack --silent >/dev/null && mv e-1.0.0.tgz ..); rm -r e
echo '{"name":"a","version":"1.0.0","dependencies":{"e":"file:e-1.0.0.tgz"},"scripts":{"test":"npm run x"}}' >package.json
step <<'X'
npm install --offline
npm test
X
