//! What stands below the help of each command.

use tracker_model::api::AlertKind;

pub(super) const EXAMPLES: &str = "\
Examples:
  tracker run                      start the daemon on the host's interfaces
  tracker status                   is it well, what does it watch
  tracker alerts                   which listener is flooded, which ports run out, who leaks
  tracker listeners -o wide        SYNs, handshakes and queues of every listener
  tracker states -o json           socket states, for a script
  tracker ports                    local ports by destination: how many are left, for how long
  tracker explain connect db:5432  would connect() find a local port; if not, who has them
  tracker explain bind :443        would bind() succeed; if not, which socket is in the way
  tracker explain listen :443      why can nobody connect here

Exit codes: 0 fine, 1 failed, 2 wrong usage.";

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  tracker run
  tracker run --interface eth0 --interface 'veth*' --hook tc
  tracker run --web.listen-address :10046 --log-level debug
  tracker run --config ./tracker.toml --check-config

Settings come from flags, then from the environment, then from the file, then from the defaults.
The file is TOML; its keys are the names of the flags.
The daemon needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.
The daemon stops on SIGTERM, SIGINT and SIGQUIT, and leaves nothing attached.";

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  tracker status
  tracker status -o wide           with programs and their cost, and all TCP counters
  tracker status --check           one line for a monitoring system; exits 0, 1 or 2

--check takes the worse of the daemon's health and the alerts that fire: 0 fine or for information,
1 warning, 2 critical.
The TCP counters are those of the whole network namespace, all its listeners together.";

/// With the kinds of alert that there are.
pub(super) fn alerts_examples() -> String {
    let kinds: Vec<_> = AlertKind::ALL.iter().map(|kind| kind.name()).collect();
    let lines: Vec<_> = kinds.chunks(5).map(|kinds| kinds.join(", ")).collect();
    format!("{ALERTS_EXAMPLES}\nKinds: {}.", lines.join(",\n"))
}

const ALERTS_EXAMPLES: &str = "\
Examples:
  tracker alerts
  tracker alerts --firing -o wide  with the evidence of each, and what to do
  tracker alerts -o json | jq -r '.alerts[] | select(.state == \"firing\") | .summary'

An attack is one alert from its onset to its end; pauses of less than a minute do not end it.
Classes: spoofed (a flood from sources all over), single_source, prefix, slow_accept (the
application does not accept), scan (many ports, no listener). A surge that is answered is no alert:
it shows in `tracker listeners`.
Shares and distinct sources are estimates and stand with their error; counts without one are exact.";

pub(super) const LISTENERS_EXAMPLES: &str = "\
Examples:
  tracker listeners
  tracker listeners -o wide
  tracker listeners -o json | jq '.listeners[] | select(.verdict == \"spoofed\")'

PROCESS is the name of the thread that called listen().
VERDICT is that of the flood detector; see `tracker alerts`.
DROPPED are requests that this listener turned away; UNANSWERED are SYNs that neither completed a
handshake nor are half-open now; a repeated SYN counts again.
Figures by listener are those of watched interfaces, but for COMPLETED and CONNECTED, which are of
all. With ± stands the error of an estimate, with <= a bound; other counts are exact.
SYNs to no listener include those to services that the kernel translates (NodePort, published ports
of Docker, REDIRECT, IPVS): nothing listens at the port they are addressed to, but they are
answered. Their ports are named by activity in the last minute or so, with all SYNs and SYNs
per second.";

pub(super) const STATES_EXAMPLES: &str = "\
Examples:
  tracker states
  tracker states -o wide           with transitions
  tracker states -o json | jq '.states[].ipv4.time_wait'";

pub(super) const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo tracker doctor
  tracker doctor -o json | jq '.checks[] | select(.verdict != \"ok\")'

It loads each program into the kernel and takes it out again; nothing stays.
Exits 1 when the daemon could not run.";

pub(super) const PORTS_EXAMPLES: &str = "\
Examples:
  tracker ports
  tracker ports --destination 198.51.100.7:443 -o wide
  tracker ports --process nginx
  tracker ports -o json | jq '.ports[] | select(.used_ratio > 0.5)'

A connection takes a local port for its source and destination; other destinations have as many.
CAPACITY is what one connect() can choose from: net.ipv4.ip_local_port_range without reserved ports
and without those that bind() took. USED% is of those that no new connection can have: TIME-WAIT
counts, REUSABLE does not (net.ipv4.tcp_tw_reuse).
Counts are those of the last census and exact. GROWTH/S and FULL-IN are estimates (~), from the
last minute; >= stands with lower bounds. FAILED are calls of connect() that found no port, since
the daemon started. PROCESS holds most of the ports; +1 is one more (-o wide names them). Nobody
holds those in TIME_WAIT.
Without --all only destinations that matter are shown: the worst 20 with 1 % in use or more, or
that fill, or for which calls failed, and no fewer than five.
BIND POOL is what bind() with port 0 chooses from, for sockets that are bound before they connect.
With -o json the answer has all that --destination and --process leave.";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  tracker explain connect 198.51.100.7:443
  tracker explain bind :80
  tracker explain bind 127.0.0.1:9000 --reuse-address -o json
  tracker explain listen :443 --for 10s";

pub(super) const EXPLAIN_CONNECT_EXAMPLES: &str = "\
Examples:
  tracker explain connect 198.51.100.7:443
  tracker explain connect [2001:db8::1]:443 --source 2001:db8::10
  tracker explain connect localhost:5432 --check

Nothing is sent: the daemon looks at its host's sockets and applies the kernel's rules to them.
Only local ports are looked at, not whether somebody answers at the other end.
--check exits 0 when connect() would find a port, 1 when it would not, 2 when that is not known.";

pub(super) const EXPLAIN_BIND_EXAMPLES: &str = "\
Examples:
  tracker explain bind :80                      on all addresses, IPv6 and IPv4
  tracker explain bind 0.0.0.0:80 --reuse-address
  tracker explain bind [::]:53 --udp --ipv6-only --user unbound

:80 and *:80 are [::]:80, the IPv6 wildcard, which takes IPv4 too unless --ipv6-only is set or
net.ipv6.bindv6only is 1; for IPv4 alone name 0.0.0.0:80. Port 0 is any port of the range.
Nothing is bound: the daemon looks at its host's sockets and applies the kernel's rules to them.
--check exits 0 when bind() would succeed, 1 when it would fail, 2 when that is not known.";

pub(super) const EXPLAIN_LISTEN_EXAMPLES: &str = "\
Examples:
  tracker explain listen :443                   at all addresses, IPv6 and IPv4
  tracker explain listen 192.0.2.10:443 --for 10s
  tracker explain listen [2001:db8::10]:22 -o json | jq -r .cause

Nothing is sent: let somebody try to connect while the daemon watches. It follows the SYNs from the
interface to the process: do they arrive, what drops or takes them, who listens, are queues full,
are answers acknowledged. One cause and one remedy come first, then the figures, step by step.
While it watches, a program sees each packet that the host drops and each that it sends.
--check exits 0 when nothing on this host is in the way, also when nobody tried to connect, 1 when
something is, 2 when that is not known.";
