//! The help texts, of lines of at most 80 columns.

pub(super) const HELP: &str = "\
firmware-ctd makes a router's connection tracking dependable: it receives the
kernel's conntrack events reliably and accounts every flow exactly.

Usage: firmware-ctd COMMAND [OPTION]...

  run        be the daemon, in the foreground
  validate   check configuration files
  status     how the daemon is, what it has seen and what was lost
  flows      the flow table as the daemon sees it
  events     follow flows as they begin, change and end
  checkpoint save, look into, and restore checkpoints
  selftest   what this kernel can do

  COMMAND --help   more about a command
  --version        print the version

Exit codes: 0 success, 64 usage, 65 a file's content is wrong, 69 the daemon or
the kernel does not answer, 70 internal fault, 74 reading or writing failed,
75 not done yet, 77 a privilege is missing, 78 the configuration is wrong.
";

pub(super) const HELP_RUN: &str = "\
Usage: firmware-ctd run [-c FILE]...

Runs the daemon in the foreground; it logs \"ready\" once it serves. Needs
CAP_NET_ADMIN. SIGTERM and SIGINT end it, SIGHUP makes it read the files again;
when they are wrong it goes on with what it has.

  -c, --config FILE   configuration in TOML; later files overlay earlier ones;
                      without any the defaults apply
";

pub(super) const HELP_VALIDATE: &str = "\
Usage: firmware-ctd validate [-c FILE]...

Checks configuration files as `run` reads them. Prints every fault as
file:line: message and ends with 78; ends with 0 when there is none.

  -c, --config FILE   configuration in TOML; later files overlay earlier ones
";

pub(super) const HELP_STATUS: &str = "\
Usage: firmware-ctd status [-s SOCKET|-c FILE] [--json|--prometheus]

Shows how the daemon is: the table, the events seen, what was lost and why,
the sinks, and the memory.

  -s, --socket SOCKET   control socket [/var/run/firmware-ctd.sock]
  -c, --config FILE     or the one of this configuration
      --json            one JSON object
      --prometheus      Prometheus' text format
";

pub(super) const HELP_FLOWS: &str = "\
Usage: firmware-ctd flows [-s SOCKET|-c FILE] [--json] [--all] [FILTER]...

Lists the flows in the table, one a line, the first 1000 unless --all is given.

  -s, --socket SOCKET   control socket [/var/run/firmware-ctd.sock]
  -c, --config FILE     or the one of this configuration
      --json            one JSON object a line
      --all             every flow

A flow is shown when it meets every FILTER:
  family=ipv4|ipv6      address family
  proto=NAME|NUMBER     tcp, udp, icmp, icmpv6, sctp, dccp, gre, udplite, 0-255
  src=ADDR[/PREFIX]     source of the original direction; also dst=
  addr=ADDR[/PREFIX]    either end, in either direction
  sport=N[-M]           source port of the original direction; also dport=
  port=N[-M]            either end, in either direction
  zone=N                conntrack zone
  mark=N[/MASK]         connection mark, decimal or 0x...
  label=N               connection label, 0-127
  state=NAME            TCP state: established, syn-sent, time-wait, ...
  assured, snat, dnat, offload
                        flows with that status
";

pub(super) const HELP_EVENTS: &str = "\
Usage: firmware-ctd events [-s SOCKET|-c FILE] [--json]

Follows flows as they begin, change and end. Best effort: a reader that is too
slow misses events, and is told how many.

  -s, --socket SOCKET   control socket [/var/run/firmware-ctd.sock]
  -c, --config FILE     or the one of this configuration
      --json            one JSON object a line
";

pub(super) const HELP_CHECKPOINT: &str = "\
Usage: firmware-ctd checkpoint save [-s SOCKET|-c FILE] [--wait SECONDS]
       firmware-ctd checkpoint show FILE [--json]
       firmware-ctd checkpoint verify FILE
       firmware-ctd checkpoint restore [-c FILE]... [IMAGE]

`save` has the daemon save its flows now, and tells what was saved; ends with 75
when that takes longer than it may wait. `show` lists what an image file tells
of itself and every flow in it, `verify` tells on one line whether it is whole
and sound; both end with 65 when it is not, and tell the first fault and at
which byte it is. `restore` makes the flows of an image again in the kernel, as
`run` does by itself at the first start after a reboot; those that live stay.

  -s, --socket SOCKET   control socket [/var/run/firmware-ctd.sock]
      --wait SECONDS    how long to wait for the save [0: it is only begun]
      --json            one JSON object a line
  -c, --config FILE     configuration: its control.socket to save; to restore, its
                        checkpoint.directory, keep and timeout_cap_s
";

pub(super) const HELP_SELFTEST: &str = "\
Usage: firmware-ctd selftest [--json]

Tells what this kernel can do: events, reliable events, accounting, timestamps.
Creates and deletes one probe flow. Needs CAP_NET_ADMIN.

      --json   one JSON object
";
