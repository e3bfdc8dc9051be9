// Package network makes network namespaces from which the internet is reached and nothing of this host: neither its
// loopback and its addresses, nor the networks that it is in, nor private and metadata addresses.
//
// It does so without any right on the host's own network, through slirp4netns: a process that speaks TCP, UDP and DNS for
// the namespace as an ordinary program would. What may not be reached has a route in the namespace that prohibits it,
// which only the namespace's owner could change, and nobody who runs in it is that.
package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// The network between a namespace and slirp4netns. Nameserver passes questions on to the host's own nameserver.
const (
	Nameserver = "10.0.2.3"
	inside     = "10.0.2.0/24"
)

// alwaysRefused are the addresses of no public host.
var alwaysRefused = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15",
	"224.0.0.0/4", "240.0.0.0/4",
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// hostNetworks are the host's addresses with the networks that it is in. They are asked for each time: they may change.
func hostNetworks() ([]netip.Prefix, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var found []netip.Prefix
	for _, address := range addresses {
		network, err := netip.ParsePrefix(address.String())
		if err == nil && !network.Addr().IsLoopback() {
			found = append(found, network.Masked(), netip.PrefixFrom(network.Addr(), network.Addr().BitLen()))
		}
	}
	return found, nil
}

// routing is what ip sets in a namespace, line by line: everything that may not be reached is prohibited, all of IPv6
// with it, and of the network inside only questions about names go out. Without that last rule slirp4netns would pass on
// every port to the host's nameserver, which may well be this host.
func routing(refused []netip.Prefix, ipv6 bool) string {
	var lines strings.Builder
	fmt.Fprintln(&lines, "link set lo up")
	fmt.Fprintf(&lines, "rule add pref 10 to %s/32 ipproto udp dport 53 lookup main\n", Nameserver)
	fmt.Fprintf(&lines, "rule add pref 11 to %s/32 ipproto tcp dport 53 lookup main\n", Nameserver)
	fmt.Fprintf(&lines, "rule add pref 12 to %s prohibit\n", inside)
	for _, prefix := range refused {
		if prefix.Addr().Is4() && prefix.Bits() > 0 && !within(prefix) {
			fmt.Fprintf(&lines, "route replace prohibit %s\n", prefix)
		}
	}
	if ipv6 {
		fmt.Fprintln(&lines, "route replace prohibit ::/0 metric 1")
	}
	return lines.String()
}

// within tells whether a prefix is part of the network inside: then what is reached there is never the host's.
func within(prefix netip.Prefix) bool {
	network := netip.MustParsePrefix(inside)
	return prefix.Bits() >= network.Bits() && network.Contains(prefix.Addr())
}
