package hostile

import (
	"strings"

	"github.com/voltrun/voltrun/domain"
)

const (
	reachHost = `
def attack(e):
    acts = {f"{a['host']}:{a['port']}": lambda a=a: connect(socket.AF_INET6 if ":" in a["host"] else socket.AF_INET, (a["host"], a["port"])) for a in e["addresses"]}
    acts |= {address: lambda address=address: connect(socket.AF_INET, (address, e["addresses"][0]["port"])) for address in ("0.0.0.0", "127.0.0.2", "10.0.2.2")}
    acts |= {path: lambda path=path: connect(socket.AF_UNIX, path) for path in (e["unix"], "\0" + e["abstract"], e["postgres"], "/run/dbus/system_bus_socket", "/run/docker.sock")}
    return tried(**acts)`
	reachHostNode = `
const attack = (e) => tried({
  ...Object.fromEntries(e.addresses.map((to) => [to.host, () => connect(to)])), gateway: () => connect({ host: '10.0.2.2', port: e.addresses[0].port }),
  unix: () => connect({ path: e.unix }), abstract: () => connect({ path: '\0' + e.abstract }), postgres: () => connect({ path: e.postgres }) });`
	reachPrivate = `
def attack(e):
    return tried(**{address: lambda address=address: connect(socket.AF_INET6 if ":" in address else socket.AF_INET, (address, 80)) for address in (
        "169.254.169.254", "169.254.170.2", "100.100.100.200", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "192.0.2.1", "198.18.0.1", "0.0.0.0",
        "::1", "fd00:ec2::254", "fc00::1", "::ffff:169.254.169.254", "::ffff:127.0.0.1")})`
	reachPrivateNode = `
const attack = () => tried(Object.fromEntries(['169.254.169.254', '10.0.0.1', '172.31.255.254', '192.168.0.1', '100.64.0.1', 'fd00:ec2::254', '::ffff:169.254.169.254']
  .map((host) => [host, () => connect({ host, port: 80 })])));`
	reachWorld = `
def say(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return s.sendto(b"x", (address, 53))
def attack(e):
    return tried(web=lambda: connect(socket.AF_INET, ("1.1.1.1", 443)), names=lambda: say("8.8.8.8"), six=lambda: connect(socket.AF_INET6, ("2606:4700:4700::1111", 443)))`
)

const noNetwork = "functions cannot be given the internet here"

// networks are tried without a network and with the way to the internet.
var networks = append(withEgress([]attack{
	{name: "the server and the host", runtime: "python", code: reachHost},
	{name: "the server and the host", runtime: "nodejs", code: reachHostNode},
	{name: "private and metadata addresses", runtime: "python", code: reachPrivate},
	{name: "private and metadata addresses", runtime: "nodejs", code: reachPrivateNode},
}),
	attack{name: "the internet", runtime: "python", code: reachWorld},
	attack{name: "names of the internet", runtime: "nodejs", want: done, code: `
const attack = () => require('dns').promises.lookup('example.com').then(() => 'found', () => 'done');`},
	attack{name: "the loopback of another function", runtime: "python", want: `"all refused"`, notOn: map[string]string{"landlock": "there are no sockets"}, code: `
def attack(e):
    with socket.create_server(("127.0.0.1", 0)) as s:
        connect(socket.AF_INET, s.getsockname())  # its own it has
    return tried(**{str(port): lambda port=port: connect(socket.AF_INET, ("127.0.0.1", port)) for port in range(20_000, 20_200)})`},
)

func withEgress(attacks []attack) (all []attack) {
	for _, a := range attacks {
		all = append(all, a)
		a.name, a.network, a.notOn = strings.TrimSpace(a.name)+" with egress", domain.NetworkEgress, map[string]string{"landlock": noNetwork}
		all = append(all, a)
	}
	return all
}
