#!/usr/bin/env bash
# Everything a change must pass, from a clean checkout: bash tests/run.sh [--require-kafka] [--require-browser] [options of pytest]
# The environment is .venv, or $STREAMLAB_VENV; its Python is the first of $PYTHON, python3, ... that is new enough.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
die() { printf '\ntests/run.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.11 or newer among: ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}"
}

make_venv() {
    local python
    python=$(find_python)
    say "making $venv with $("$python" --version)"
    rm -f "$venv/streamlab-installed"
    # Debian's Python may come without ensurepip; its pip can serve another environment
    "$python" -m venv "$venv" >/dev/null 2>&1 || {
        "$python" -m venv --without-pip "$venv"
        "$python" -m pip --python "$venv/bin/python" install --quiet pip
    }
}

install_package() {
    # the installation points at this checkout, and holds for this pyproject.toml
    local stamp="$venv/streamlab-installed" wanted
    wanted="$PWD $(cksum <pyproject.toml)"
    if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
        say "installing streamlab and its test tools"
        rm -f "$stamp"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[notebook,test]'
        echo "$wanted" >"$stamp"
    fi
}

# What tests need beside Python is installed where that is allowed; without it they are skipped, or fail under --require-...
apt_install() {
    [[ $(id -u) == 0 ]] && has apt-get || return 1
    say "installing $*"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# Kafka needs Java, and Maven the first time
install_java() {
    [[ -n ${STREAMLAB_TEST_BOOTSTRAP:-} ]] || { has java && has mvn; } || apt_install default-jdk-headless maven ||
        printf '\ntests/run.sh: java or mvn is missing: install Java 17 or newer and Maven to run the tests on Kafka\n' >&2
}

install_browser() {
    [[ -n ${STREAMLAB_CHROMIUM:-} ]] || has chromium || has chromium-browser || has google-chrome ||
        apt_install chromium fonts-dejavu-core ||
        printf '\ntests/run.sh: no browser: install Chromium, or set STREAMLAB_CHROMIUM, to run the tests in Jupyter\n' >&2
}

step() {
    say "$*"
    "$@" || die "$1 found something to mend (above); the tests were not run"
}

venv=${STREAMLAB_VENV:-.venv}
[[ -x $venv/bin/python ]] && "$venv/bin/python" -c '' || make_venv
install_package
install_java
install_browser
VIRTUAL_ENV=$(cd "$venv" && pwd)
PATH="$VIRTUAL_ENV/bin:$PATH"
export VIRTUAL_ENV PATH

step ruff check .
step ruff format --check .
step mypy --strict
step lint-imports --no-logo
say "pytest"
exec python -m pytest streamlab tests --ignore=tests/bench --doctest-modules --durations=15 "$@"
