# Sourced by demo and test: makes the virtual environment $venv. Needs Python 3.11 or newer and nothing else.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "sentax needs Python 3.11 or newer; set PYTHON=/path/to/python" >&2
  exit 2
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  # Debian and Ubuntu ship the module that makes environments as a package of its own.
  echo "installing python3-venv" >&2
  if [ "$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi
  $as_root apt-get update -q >&2 && $as_root apt-get install -y -q python3-venv >&2
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
