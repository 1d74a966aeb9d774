# A program of the workspace is called like a provider; a recipe starts it
# expect: 86 .aws/credentials 203.0.113.7:443
. "$(dirname "$0")/../lib.sh"
c_thief >thief.c; mkdir -p .terraform; cc -o .terraform/terraform-provider-x thief.c; sleep 0.1
printf 'all:\n\t.terraform/terraform-provider-x\n' >Makefile
guard make
