# The set-up that ci/setup, ci/demo and ci/test share, step by step.  Source it after ci/lib.sh.
# shellcheck shell=bash

logs=$root/build/logs

# Elapsed time counts from the first script of the chain.
export NGMASQUE_START=${NGMASQUE_START:-$EPOCHREALTIME}

# step TEXT: says what is being done, with the time that has passed.
step() {
  local us=$((${EPOCHREALTIME/./} - ${NGMASQUE_START/./}))
  printf '[%4d.%ds] %s\n' $((us / 1000000)) $((us / 100000 % 10)) "$*"
}

# quietly LOG COMMAND...: output goes to build/logs/LOG; when the command fails, the failing part
# is shown and the script ends.
quietly() {
  local log=$logs/$1
  shift
  "$@" </dev/null >"$log" 2>&1 || {
    failing_part "$log"
    die "this failed: $* (the whole output is in ${log#"$root"/})"
  }
}

# Of a ninja log the blocks of the commands that failed, of any other its end.
failing_part() {
  if grep -q '^FAILED: ' "$1"; then
    awk '/^FAILED: /{show = 1} /^\[[0-9]+\/[0-9]+\]/{show = 0} show' "$1" | cut -c1-2000 | head -n 100
  else
    tail -n 40 "$1"
  fi >&2
}

# lock NAME: one script of this name at a time in one clone, to the end of the script.
lock() {
  mkdir -p "$root/subprojects" "$logs"
  exec 9>"$root/subprojects/.lock-$1"
  if ! flock -n 9; then
    step "waiting for another ci/$1 in this clone"
    flock 9
  fi
}

packages() { awk -v group="$1" '$1 == group { print $2 }' "$root/ci/packages"; }

# install GROUP: the packages of ci/packages that are missing.  No network is needed when none is.
install() {
  local group=$1 missing=() name apt
  command -v dpkg-query >/dev/null ||
    die "this is no Debian: install what ci/packages lists by hand, then ci/apply-patches, then meson setup build"
  for name in $(packages "$group"); do
    dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "these Debian packages are missing: ${missing[*]}; run this as root, or once: apt-get install ${missing[*]}"
  step "installing ${#missing[@]} Debian packages: ${missing[*]}"
  mkdir -p "$logs"
  # Wait for another apt rather than fail; keep the machine's configuration files.
  apt="env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 -o Dpkg::Options::=--force-confold"
  # An update that fails is no reason to stop: the packages may be in apt's cache.
  $apt update </dev/null >"$logs/apt-update" 2>&1 || true
  $apt install --no-install-recommends "${missing[@]}" </dev/null >"$logs/apt-install" 2>&1 || {
    tail -n 20 "$logs/apt-update" "$logs/apt-install" >&2
    die "apt could not install ${missing[*]} (see above); check the network and apt's sources, or install them by hand"
  }
}

# What is patched already needs no tarball.
sources_and_patches() {
  local lib what=''
  for lib in "${libs[@]}"; do
    what+="${what:+, }$lib $(upstream "$lib" version) with $(series "$lib" | wc -l) patches"
  done
  step "sources: $what"
  "$root/ci/apply-patches" >/dev/null
  "$root/ci/base-tree"
}

# build DIR OPTION...: configures once; ninja sees to everything after that.
build() {
  local dir=$1
  shift
  if [ ! -f "$root/$dir/build.ninja" ]; then
    step "configuring $dir"
    quietly "configure-${dir//\//-}" meson setup "$root/$dir" "$root" --native-file "$root/ci/clang19.ini" "$@"
  fi
  step "building $dir"
  quietly "compile-${dir//\//-}" ninja -C "$root/$dir" -j "$(nproc)"
}

build_asan() {
  # b_lundef: a shared library cannot link with -z defs against clang's sanitizer runtime.
  # optimization: as fast as the tests need it, and quicker to compile.
  build build/asan -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1
}
