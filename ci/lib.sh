# Shared by the scripts in ci/.  Source it, do not run it.
# shellcheck shell=bash

set -euo pipefail

# Same behaviour whatever the caller's shell is set up for: messages in one language, UTF-8 file
# contents, files that others may read, no repository or identity for git in the environment.
export LC_ALL=C.UTF-8
umask 022
unset CDPATH TAR_OPTIONS GREP_OPTIONS "${!GIT_@}"

root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
me=$(basename -- "$0")

# In build order: ngtcp2's sample programs need nghttp3.
libs=(nghttp3 ngtcp2)
# The same series on the head of upstream's development branch, which the user has to clone.  They name
# the files of the release's series where these do; what differs is a file of their own.
main_libs=(nghttp3-main ngtcp2-main)

die() {
  echo "ci/$me: $*" >&2
  exit 1
}

# One line about a wrong command line; exit status 2.
usage_error() {
  echo "ci/$me: $*" >&2
  exit 2
}

# upstream LIB KEY: one value of patches/LIB/UPSTREAM.
upstream() {
  local file=$root/patches/$1/UPSTREAM value
  value=$(sed -n "s/^$2=//p" "$file" 2>/dev/null) || true
  [ -n "$value" ] || die "patches/$1/UPSTREAM has no line $2=..."
  printf '%s\n' "$value"
}

# check_lib NAME [LIB ...]: is it one of these, or of ours?
check_lib() {
  local name=$1 lib
  shift
  [ $# -gt 0 ] || set -- "${libs[@]}"
  for lib in "$@"; do
    [ "$lib" != "$name" ] || return 0
  done
  usage_error "unknown library '$name': one of $*"
}

is_main() { [[ $1 == *-main ]]; }

# main_lib DIR: which of main_libs a clone of upstream's is for: it has the commit that our series stands on.
main_lib() {
  local lib
  pgit -C "$1" rev-parse -q --git-dir >/dev/null 2>&1 || die "$1 is no git repository"
  for lib in "${main_libs[@]}"; do
    ! has_commit "$1" "$(upstream "$lib" commit)" || { echo "$lib"; return; }
  done
  die "$1 has none of the commits that our series stand on: $(for lib in "${main_libs[@]}"; do
    echo "$(upstream "$lib" name) $(upstream "$lib" describe)"
  done | paste -sd, | sed 's/,/, /g'); is it a full clone, and up to date (git fetch)?"
}

has_commit() { pgit -C "$1" rev-parse -q --verify "$2^{commit}" >/dev/null 2>&1; }

# series LIB: the names of the patches, in order, from patches/LIB.  An empty series is a series.
series() {
  local file=$root/patches/$1/series
  [ -f "$file" ] || die "patches/$1/series is missing"
  sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$file"
}

# topics LIB: the names of the topics, in order.
topics() { sed -n 's/^# topic: //p' "$root/patches/$1/series"; }

# own_patches LIB, own_files LIB: those of the folder itself, by its series and by its files, sorted.
own_patches() { series "$1" | sed '/\//d' | sort; }
own_files() { (cd "$root/patches/$1" && find . -name '*.patch' -printf '%P\n' | sort); }

# series_files LIB: the patches, in order, with their paths.
series_files() { series "$1" | sed "s#^#$root/patches/$1/#"; }

# git, the same for everybody: no configuration of the user or the machine (hooks, line ends,
# signing, an identity or the lack of one).
pgit() {
  GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 \
    git -c user.name='ngmasque patch series' -c user.email=patches@ngmasque.invalid \
    -c core.autocrlf=false -c core.quotePath=true -c commit.gpgSign=false -c advice.detachedHead=false \
    -c gc.auto=0 -c init.defaultBranch=series "$@"
}

# What the patched tree in subprojects/LIB was made of: tarball and series.
series_key() {
  local lib=$1 patch
  {
    upstream "$lib" sha256
    series "$lib"
    while read -r patch; do
      [ -f "$root/patches/$lib/$patch" ] || die "patches/$lib/series names $patch, but there is no such file"
      sha256sum <"$root/patches/$lib/$patch"
    done < <(series "$lib")
  } | sha256sum | cut -d' ' -f1
}

# record LIB: subprojects/LIB as it stands is the present series.
record() {
  local tree=$root/subprojects/$1
  printf '%s %s\n' "$(series_key "$1")" "$(pgit -C "$tree" rev-parse HEAD)" >"$tree/.git/ngmasque-series"
}

# unpack LIB TARBALL DIR: a git repository of one commit, the tarball, on the branch `upstream`.
# Author and dates are fixed: the commit's name is the same everywhere.
unpack() {
  local lib=$1 tarball=$2 dir=$3 who='release tarball' mail=upstream@ngmasque.invalid when='2000-01-01T00:00:00Z'
  mkdir -p "$dir"
  # Owned by whoever unpacks: git refuses to work in a tree that another user owns.
  tar -xf "$tarball" -C "$dir" --strip-components=1 --no-same-owner --no-same-permissions
  pgit init -q --template= "$dir"
  pgit -C "$dir" symbolic-ref HEAD refs/heads/upstream
  # -f: files that upstream's own ignore rules name are in the tarball all the same.
  pgit -C "$dir" add -f -A
  GIT_AUTHOR_NAME=$who GIT_AUTHOR_EMAIL=$mail GIT_AUTHOR_DATE=$when \
    GIT_COMMITTER_NAME=$who GIT_COMMITTER_EMAIL=$mail GIT_COMMITTER_DATE=$when \
    pgit -C "$dir" commit -q --no-verify -m "$(upstream "$lib" name) $(upstream "$lib" version), the release tarball"
}

# am DIR FILE...: the patches, in order, onto the branch `series` of DIR.
am() {
  local dir=$1
  shift
  pgit -C "$dir" checkout -q -B series
  [ $# -gt 0 ] || return 0
  # The committer's date is the author's: again, the same names everywhere.
  pgit -C "$dir" am -q --committer-date-is-author-date --no-gpg-sign --keep-non-patch --no-scissors \
    --no-message-id --no-3way --whitespace=nowarn "$@"
}

# base_tree LIB DIR [CLONE [COMMIT]]: what the series stands on, on the branch `upstream` of a new git repository DIR.
base_tree() {
  local lib=$1 dir=$2 clone=${3:-} commit=${4:-} tarball
  if is_main "$lib"; then
    pgit clone -q --shared --no-checkout --template= "$clone" "$dir"
    pgit -C "$dir" checkout -q -B upstream "${commit:-$(upstream "$lib" commit)}"
  else
    tarball=$("$root/ci/get-sources" "$lib")
    unpack "$lib" "$tarball" "$dir"
  fi
}

# format_patches LIB DIR BASE TIP OUT: one file per commit and a `series` file in the directory OUT.
# The options take everything out of the patches that depends on who exports them, when, from
# which clone and with which settings; so exporting what was applied gives the identical files.
format_patches() {
  local lib=$1 dir=$2 base=$3 tip=$4 out=$5
  pgit -C "$dir" \
    -c diff.noprefix=false -c diff.mnemonicPrefix=false -c diff.suppressBlankEmpty=false \
    -c diff.indentHeuristic=true -c diff.interHunkContext=0 \
    -c format.from=false -c format.headers= -c format.notes=false -c format.useAutoBase=false \
    -c format.encodeEmailHeaders=true \
    format-patch -q -o "$out" --zero-commit --no-signature --full-index --binary \
    --no-numbered --subject-prefix=PATCH --suffix=.patch --start-number=1 --filename-max-length=64 \
    --no-attach --no-thread --no-cover-letter --no-base --no-notes --no-to --no-cc --no-add-header \
    --no-renames --diff-algorithm=myers --no-ext-diff --no-textconv --no-color --no-relative -O/dev/null \
    --src-prefix=a/ --dst-prefix=b/ -U3 --stat=72 --summary -p "$base..$tip"
  write_series "$lib" "$dir" "$base" "$tip" "$out"
}

# trailer KEY FILE: of the message in a patch.
trailer() { sed -n "/^---\$/q; s/^$1: *//p" "$2" | tail -n 1; }

# write_series LIB DIR BASE TIP OUT: OUT/series for the patches there, which are the commits BASE..TIP of DIR.
# The trailers `Topic: NAME` of the messages become comments: the first patch of a topic follows `# topic: NAME`.
# For a series on main, what the release's series has as well is named there and removed from OUT.
write_series() {
  local lib=$1 dir=$2 base=$3 tip=$4 out=$5 file files commits i name topic='' scratch='' shared
  local -A topics=() subjects=()
  mapfile -t files < <(find "$out" -name '[0-9]*.patch' -printf '%P\n' | sort)
  mapfile -t commits < <(pgit -C "$dir" rev-list --reverse "$base..$tip")
  if is_main "$lib"; then
    while read -r name; do
      subjects[$(pgit mailinfo -b /dev/null /dev/null <"$root/patches/${lib%-main}/$name" | sed -n 's/^Subject: //p')]=$name
    done < <(series "${lib%-main}")
    scratch=$(mktemp -d)
    pgit clone -q --shared --no-checkout --template= "$dir" "$scratch"
  fi
  for i in "${!files[@]}"; do
    file=${files[i]}
    name=$(trailer Topic "$out/$file")
    [[ $name =~ ^([a-z][a-z0-9-]*)?$ ]] || die "$lib, $file: 'Topic: $name' is not 'Topic: NAME'"
    [ -n "$name" ] || [ -z "$topic" ] || die "$lib, $file: no line 'Topic: ...', but the patches before it have one"
    if [ "$name" != "$topic" ]; then
      [ -z "${topics[$name]:-}" ] || die "$lib, $file: the topic $name has ended before this patch; keep its patches together"
      topic=$name
      topics[$topic]=1
      echo "# topic: $topic"
    fi
    shared=
    if [ -n "$scratch" ]; then
      shared=${subjects[$(pgit -C "$dir" log -1 --format=%s "${commits[i]}")]:-}
    fi
    if [ -n "$shared" ] && gives "$scratch" "${commits[i]}" "$root/patches/${lib%-main}/$shared"; then
      echo "../${lib%-main}/$shared"
      rm "$out/$file"
    else
      echo "$file"
    fi
  done >"$out/series"
  [ -z "$scratch" ] || rm -rf "$scratch"
}

# gives DIR COMMIT FILE: does the patch, applied to the commit's parent, give its tree and its message?
gives() {
  local dir=$1 commit=$2 file=$3
  pgit -C "$dir" checkout -q --detach "$commit^"
  am "$dir" "$file" >/dev/null 2>&1 || {
    pgit -C "$dir" am --abort
    return 1
  }
  [ "$(pgit -C "$dir" log -1 --format=%T%n%B)" = "$(pgit -C "$dir" log -1 --format=%T%n%B "$commit")" ]
}

# The archives of the machine's own apt configuration that serve the Debian it runs, as lines of URI
# and suite.  apt does the parsing: one-line and deb822 sources count alike, and no lists need to be
# there.
archives() {
  local codename
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
  apt-get update --print-uris 2>/dev/null |
    sed -nE "s#^'(.*)/dists/(($codename|oldstable|stable|testing|unstable|sid)([-/][a-z-]+)?)/(InRelease|Release)' .*#\1 \2#p"
}

# carry_over_apt TREE: what this machine needs to reach its package archive is needed in TREE as well.
carry_over_apt() {
  local tree=$1 file
  # apt: proxies, time-outs, credentials; Check-Valid-Until where an archive's snapshot is old.
  apt-config dump | grep '^Acquire::' | grep -v '^Acquire::\(CompressionTypes\|IndexTargets\|Languages\|GzipIndexes\)' >"$tree/etc/apt/apt.conf.d/99carried-over" || true
  for file in /etc/apt/auth.conf /etc/apt/auth.conf.d/*; do
    [ ! -f "$file" ] || cp "$file" "$tree$file"
  done
  # The local certificate authorities; the package ca-certificates takes them in when installed.
  mkdir -p "$tree/usr/local/share/ca-certificates"
  for file in /usr/local/share/ca-certificates/*.crt; do
    [ ! -f "$file" ] || cp -L "$file" "$tree/usr/local/share/ca-certificates/"
  done
}
