#!/bin/sh
# A systemd user manager of its own, in namespaces of its own, that runs the hub as a service.
#
# real.sh PROGRAM HOME PORT, as process 1 of a process namespace and in a mount namespace; PATH has the worker.
# Prints each command and what came of it, and ends with the status of the first that was not as it should be.
set -eu
hub=$1 HOME=$2 port=$3
export HOME XDG_RUNTIME_DIR=/run/user/0
unset XDG_CONFIG_HOME MLX_HUB_CONFIG_PATH

mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
for manager in /usr/lib/systemd/systemd /lib/systemd/systemd; do
  if [ -x "$manager" ]; then break; fi
done
"$manager" --user --log-target=console >"$HOME/manager.log" 2>&1 &
manager=$!
trap 'kill -TERM $manager; wait $manager || true' EXIT
for _ in $(seq 100); do
  if systemctl --user is-system-running >"$HOME/state" 2>/dev/null || grep -q degraded "$HOME/state"; then break; fi
  sleep 0.1
done

tell() { echo "\$ $*"; }
does() {
  tell "$@"
  "$hub" "$@" || { status=$?; echo "failed with $status"; exit 1; }
}
fails() {
  tell "$@"
  if "$hub" "$@"; then echo "succeeded"; exit 1; fi
}
main_pid() { systemctl --user show --property=MainPID --value mlx-openai-server-hub.service; }
is_active() { systemctl --user is-active --quiet "$1"; }

fails service status
does service install --socket
does service status
does status
is_active mlx-openai-server-hub.socket
test "$(tr '\0' '\n' <"/proc/$(main_pid)/environ" | sed -n 's/^PATH=//p' | cut -d: -f1)" = "$HOME/bin"
test "$(sed -n 's/^Max open files *\([0-9]*\) .*/\1/p' "/proc/$(main_pid)/limits")" = 10240

# A crash: it is started again, by its manager.
before=$(main_pid)
kill -KILL "$before"
for _ in $(seq 200); do
  now=$(main_pid)
  if [ "$now" != 0 ] && [ "$now" != "$before" ]; then break; fi
  sleep 0.1
done
test "$now" != "$before"
does service start

# A restart keeps the process that the manager follows.
before=$(main_pid)
does restart
test "$(main_pid)" = "$before"

# To stop it is to stop its socket too, which would start it again.
does stop
if is_active mlx-openai-server-hub.service || is_active mlx-openai-server-hub.socket; then exit 1; fi
fails service status
does start
is_active mlx-openai-server-hub.service
is_active mlx-openai-server-hub.socket

# Again, without the socket.
does service install
if [ -e "$HOME/.config/systemd/user/mlx-openai-server-hub.socket" ]; then exit 1; fi
if is_active mlx-openai-server-hub.socket; then exit 1; fi
does stop
does service start
does service stop
fails service status
does service start

does service uninstall
if is_active mlx-openai-server-hub.service; then exit 1; fi
if [ -e "$HOME/.config/systemd/user/mlx-openai-server-hub.service" ]; then exit 1; fi
fails service status
echo "all is well"
