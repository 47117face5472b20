# Shared by run and coverage.  Source it, do not run it.
# shellcheck shell=bash

set -euo pipefail
export LC_ALL=C.UTF-8
root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
work=$root/build/fuzz
ngtcp2=$root/subprojects/ngtcp2

# fail STATUS MESSAGE
fail() {
  echo "tests/fuzz/$(basename -- "$0"): $2" >&2
  exit "$1"
}

command -v clang++-19 >/dev/null || fail 1 'clang++-19 is missing: run ci/setup'

cxx_flags=(-std=c++23 -stdlib=libstdc++ -g -O1 -Wall -Wextra)
c_flags=(-std=c11 -g -O1 -DBUILDING_NGTCP2)
# Instead of the config.h that Meson writes.
ngtcp2_flags=(-D_GNU_SOURCE -DHAVE_ARPA_INET_H -DHAVE_NETINET_IN_H -DHAVE_UNISTD_H -DHAVE_ENDIAN_H -DHAVE_BYTESWAP_H
  -DHAVE_DECL_BE64TOH=1 -DHAVE_DECL_BSWAP_64=1 -isystem "$ngtcp2/lib/includes" -isystem "$ngtcp2/lib")

# compile DIR SOURCE COMPILER...: adds the object in DIR to the array `objects`.  It is compiled again
# when any file in the directory of its source or in tests/fuzz is newer: simpler than to know which
# headers it includes.
compile() {
  local object
  object=$1/$(basename "$(dirname "$2")")-$(basename "$2").o
  objects+=("$object")
  [ -f "$object" ] && [ -z "$(find "${@: -1}" "$(dirname "$2")" "$root/tests/fuzz" -newer "$object" -type f -print -quit)" ] ||
    "${@:3:$#-3}" -c "$2" -o "$object"
}

# compile_ngtcp2 DIR FLAG...: the library, and what the targets of ngtcp2 share; the latter is not what
# is tested, and libFuzzer shall not care for its branches.
compile_ngtcp2() {
  local dir=$1 file
  shift
  [ -f "$ngtcp2/lib/ngtcp2_saa.c" ] || fail 1 'subprojects/ngtcp2 is missing: run ci/setup'
  mkdir -p "$dir"
  for file in "$ngtcp2"/lib/*.c; do
    compile "$dir" "$file" clang-19 "${c_flags[@]}" "${ngtcp2_flags[@]}" "$@" "$ngtcp2/lib"
  done
  for file in "$root"/tests/fuzz/ngtcp2_*.cc; do
    case $file in
    *_fuzz.cc) ;;
    *) compile "$dir" "$file" clang++-19 "${cxx_flags[@]}" "${ngtcp2_flags[@]}" "${@/fuzzer-no-link,/}" "$ngtcp2/lib" ;;
    esac
  done
}
