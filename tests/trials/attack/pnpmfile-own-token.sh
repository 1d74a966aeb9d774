# pnpm's hook takes pnpm's own token and sends it elsewhere
# expect: 86 .npmrc 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
tools
node_thief .npmrc >.pnpmfile.cjs
mkdir dep && echo '{"name":"dep","version":"1.0.0"}' >dep/package.json
echo '{"name":"a","version":"1.0.0","dependencies":{"dep":"file:./dep"}}' >package.json
guard pnpm install --offline
